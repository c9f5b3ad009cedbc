//! Letting an agent in: a one-time token of a boot script, and the policy's or a person's consent.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest;
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use farrier_api::agent::{EnrolAnswer, EnrolRequest};
use farrier_db::{AgentSession, KeyFingerprint, Redeemed, TokenHash};
use farrier_engine::model::{Machine, MachineId, Registration};
use farrier_engine::policy::Enrolment;
use farrier_engine::timeline::Kind;
use farrier_proto::MacAddr;

use super::Plane;
use super::sessions::SILENT;
use crate::ca::AgentCertificate;
use crate::core::now;
use crate::hex::hex;
use crate::http::failure::Failure;
use crate::http::serve::Peer;

pub(super) async fn enrol(
    State(plane): State<Arc<Plane>>,
    Extension(peer): Extension<Peer>,
    Json(request): Json<EnrolRequest>,
) -> Result<Json<EnrolAnswer>, Failure> {
    let Authorised { machine, first } = authorised(&plane, &request).await?;
    let certificate = certificate(&plane, &request, machine.id)?;
    let key = KeyFingerprint(certificate.key);
    if plane.sessions.rival(machine.id, key, now()).await? {
        // It asks again and again; the timeline needs it once.
        if first {
            plane.core.note(
                machine.id,
                Kind::Warning,
                "A second agent says that it is this machine, while the first is at work or waits for approval. It was \
                 kept out; if it is the machine itself after a crash, it gets in as soon as the first is silent.",
            );
        }
        let seconds = SILENT.as_secs();
        return Err(Failure::new(
            StatusCode::CONFLICT,
            "rival",
            "Another agent is at work as this machine, or waits for approval.",
        )
        .hint(format!(
            "It is let in when the other has been silent for {seconds} seconds."
        ))
        .retry());
    }
    let machine = admit(&plane, machine, peer.addr.ip()).await?;
    for mac in &machine.macs {
        plane.core.silences.came(*mac);
    }
    let mut session = AgentSession {
        machine: machine.id,
        key,
        // No certificate yet: the session is known, but may do nothing.
        serial: String::new(),
        enrolled: now(),
        heard: now(),
    };
    if machine.registration != Registration::Approved {
        plane.sessions.wait(machine.id, key, now());
        let code = code(&certificate.key);
        if first {
            plane.core.note(
                machine.id,
                Kind::Agent,
                format!("The agent waits for approval. Its screen shows the code {code}: approve it if this page does, too."),
            );
        }
        return Ok(Json(EnrolAnswer::Pending {
            code,
            retry_s: RETRY_SECONDS,
        }));
    }
    session.serial = certificate.serial;
    plane.sessions.begin(&session).await?;
    let version = printable(&request.agent_version);
    plane.core.note(
        machine.id,
        Kind::Agent,
        format!("The agent enrolled (version {version})."),
    );
    Ok(Json(EnrolAnswer::Enrolled {
        machine: machine.id.0,
        name: machine.name.as_ref().map(ToString::to_string),
        certificate: certificate.chain,
        image_keys: vec![hex(&plane.core.ca.image_verifying_key().0)],
    }))
}

/// Who may try to enrol.
struct Authorised {
    machine: Arc<Machine>,
    /// The token was good until now; else the same key comes again.
    first: bool,
}

/// The machine that the token was made for. A token is good once; the key that used it may come again
/// with it, since an answer can be lost and an approval takes time.
async fn authorised(plane: &Plane, request: &EnrolRequest) -> Result<Authorised, Failure> {
    let refused = |why: &str| {
        Failure::new(StatusCode::UNAUTHORIZED, "token", why.to_owned())
            .hint("Boot the machine from the network again: each boot has a token of its own.")
    };
    let probe = certificate(plane, request, MachineId(uuid::Uuid::nil()))?;
    let known = plane
        .core
        .db
        .agent_session(KeyFingerprint(probe.key))
        .await?;
    let (id, first) = match plane
        .core
        .db
        .redeem_boot_token(token_hash(&request.token), now())
        .await?
    {
        Redeemed::Granted(token) => {
            let id = token.machine;
            let session = AgentSession {
                machine: id,
                key: KeyFingerprint(probe.key),
                serial: String::new(),
                enrolled: now(),
                heard: now(),
            };
            plane.sessions.note(&session).await?;
            (id, true)
        }
        Redeemed::AlreadyUsed => match known {
            Some(session) if now().since(session.enrolled) < SAME_KEY => (session.machine, false),
            _ => return Err(refused("This boot token was used before.")),
        },
        Redeemed::Expired => return Err(refused("This boot token has expired.")),
        Redeemed::Unknown => return Err(refused("This boot token is not one of ours.")),
    };
    let machine = plane
        .core
        .fleet
        .machine(id)
        .ok_or_else(|| refused("The machine was deleted."))?;
    let mac: Option<MacAddr> = request.mac.parse().ok();
    if !mac.is_some_and(|mac| machine.macs.contains(&mac)) {
        if first {
            let text = "An agent showed this machine's boot token, but another hardware address.";
            plane.core.note(id, Kind::Refused, text);
        }
        return Err(refused("The token was made for another hardware address."));
    }
    Ok(Authorised { machine, first })
}

fn certificate(
    plane: &Plane,
    request: &EnrolRequest,
    machine: MachineId,
) -> Result<AgentCertificate, Failure> {
    let signed = plane.core.ca.sign_agent(&request.csr, machine.0);
    signed.map_err(|e| Failure::new(StatusCode::BAD_REQUEST, "csr", e.to_string()))
}

/// Registers or parks a machine that nobody has approved, as the policy says.
async fn admit(
    plane: &Plane,
    machine: Arc<Machine>,
    address: IpAddr,
) -> Result<Arc<Machine>, Failure> {
    let enrolment = plane.core.policy_at(&machine, address).enrolment;
    let next = match (machine.registration, enrolment) {
        (Registration::Seen | Registration::Pending, Enrolment::Automatic) => {
            Registration::Approved
        }
        (Registration::Seen, Enrolment::Approve) => Registration::Pending,
        (Registration::Disabled, _) => {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "disabled",
                "This machine is disabled.",
            )
            .hint("Enable it on its page."));
        }
        (unchanged, _) => unchanged,
    };
    if next == machine.registration {
        return Ok(machine);
    }
    let machine = plane
        .core
        .fleet
        .change_machine(machine.id, |m| m.registration = next)
        .await?;
    if next == Registration::Approved {
        plane.core.note(
            machine.id,
            Kind::Agent,
            "The machine was registered, as the policy lets new machines in.",
        );
    }
    Ok(machine)
}

/// What both screens show for a person to compare: thirty bits of the key's fingerprint, without
/// letters that look alike.
#[must_use]
pub fn code(key: &[u8; 32]) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    key.iter()
        .take(6)
        .map(|byte| char::from(LETTERS[usize::from(byte & 31)]))
        .collect()
}

/// Tokens are kept as hashes, so that a copy of the database lets nobody in.
#[must_use]
pub fn token_hash(token: &str) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    TokenHash(hash)
}

fn printable(text: &str) -> String {
    text.chars()
        .filter(char::is_ascii_graphic)
        .take(32)
        .collect()
}

const RETRY_SECONDS: u32 = 3;
/// How long a key may come again with the token it used: the longest a person takes to approve.
const SAME_KEY: std::time::Duration = std::time::Duration::from_secs(3600);
