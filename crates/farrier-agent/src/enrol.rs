//! Becomes an agent the server knows: a key made in memory, the boot token once, a certificate back.

use std::fmt::Display;
use std::time::{Duration, Instant};

use farrier_api::agent::{EnrolAnswer, EnrolRequest};
use farrier_api::client::{AgentClient, AgentClientError, Identity};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use uuid::Uuid;

use crate::arguments::Arguments;
use crate::screen::Screen;

/// An agent with a certificate.
#[derive(Clone, Debug)]
pub struct Enrolled {
    pub machine: Uuid,
    pub name: Option<String>,
    pub client: AgentClient,
    /// Keys that may sign images.
    pub image_keys: Vec<[u8; 32]>,
}

/// What the machine says of itself beside its token.
#[derive(Clone, Debug, Default)]
pub struct Hardware {
    pub smbios_uuid: Option<Uuid>,
    pub serial: String,
}

/// Why enrolment ended without a certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error("cannot make a key: {0}")]
    MakeKey(String),
    #[error("{0}; boot the machine again to get a new token")]
    Refused(AgentClientError),
    #[error(
        "{0}; boot the machine again, and if that does not help check who answers at that address"
    )]
    Untrusted(AgentClientError),
    #[error("the certificate that the server sent cannot be used: {0}")]
    Unusable(String),
}

/// A server that is not ours may be one that is just changing its certificate; it gets this many tries.
const UNTRUSTED_TRIES: u32 = 3;
const UNTRUSTED_WAIT: Duration = Duration::from_secs(5);

/// Enrols. Waits as long as the server is away or a person has to decide; gives up when it says no.
pub async fn enrol(
    arguments: &Arguments,
    hardware: &Hardware,
    screen: &Screen,
) -> Result<Enrolled, EnrolError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make_key)?;
    let request = request(arguments, hardware, &key)?;
    let open =
        AgentClient::new(arguments.server, arguments.ca, None).map_err(EnrolError::Untrusted)?;
    let mut patience = Patience::default();
    let mut untrusted = 0;
    let mut shown_code = String::new();
    loop {
        match open.enrol(&request).await {
            Ok(EnrolAnswer::Enrolled {
                machine,
                name,
                certificate,
                image_keys,
            }) => {
                let client = certified(arguments, &certificate, &key)?;
                let image_keys = image_keys
                    .iter()
                    .map(|key| image_key(key))
                    .collect::<Result<_, _>>()?;
                return Ok(Enrolled {
                    machine,
                    name,
                    client,
                    image_keys,
                });
            }
            Ok(EnrolAnswer::Pending { code, retry_s }) => {
                if code != shown_code {
                    screen.say(format!(
                        "waiting for approval; compare this code on the server: {code}"
                    ));
                    shown_code = code;
                }
                tokio::time::sleep(Duration::from_secs(u64::from(retry_s.clamp(1, 60)))).await;
            }
            Err(error @ AgentClientError::Untrusted { .. }) => {
                untrusted += 1;
                if untrusted >= UNTRUSTED_TRIES {
                    return Err(EnrolError::Untrusted(error));
                }
                screen.say(format!("{error}; trying again"));
                tokio::time::sleep(UNTRUSTED_WAIT).await;
            }
            Err(error) if error.may_retry() => patience.wait(&error, screen).await,
            Err(error) => return Err(EnrolError::Refused(error)),
        }
    }
}

fn request(
    arguments: &Arguments,
    hardware: &Hardware,
    key: &KeyPair,
) -> Result<EnrolRequest, EnrolError> {
    // The subject is the server's to choose; a request just proves that we hold the key.
    let csr = CertificateParams::default()
        .serialize_request(key)
        .and_then(|csr| csr.pem())
        .map_err(make_key)?;
    Ok(EnrolRequest {
        token: arguments.token.clone(),
        csr,
        mac: arguments.mac.to_string(),
        smbios_uuid: hardware.smbios_uuid,
        serial: hardware.serial.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn make_key(error: impl Display) -> EnrolError {
    EnrolError::MakeKey(error.to_string())
}

fn certified(
    arguments: &Arguments,
    certificate: &str,
    key: &KeyPair,
) -> Result<AgentClient, EnrolError> {
    let unusable = |error: &dyn Display| EnrolError::Unusable(error.to_string());
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
    let chain = chain
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(&error))?;
    if chain.is_empty() {
        return Err(EnrolError::Unusable("it is empty".to_owned()));
    }
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    AgentClient::new(
        arguments.server,
        arguments.ca,
        Some(Identity { chain, key }),
    )
    .map_err(|error| unusable(&error))
}

/// An image key is 32 bytes in hex, as a pin is.
fn image_key(hex: &str) -> Result<[u8; 32], EnrolError> {
    let pin: Result<farrier_api::client::CaPin, _> = hex.parse();
    pin.map(|pin| pin.0)
        .map_err(|_| EnrolError::Unusable("an image key is not 64 hex digits".to_owned()))
}

/// Waiting for a server that is away: longer each time, and not a line on the screen for each try.
#[derive(Debug, Default)]
pub struct Patience {
    tries: u32,
    since: Option<Instant>,
    said: Option<Instant>,
}

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
const SAY_AGAIN: Duration = Duration::from_secs(30);

impl Patience {
    /// How long the `tries`th wait is.
    fn span(tries: u32) -> Duration {
        FIRST_WAIT
            .saturating_mul(1 << tries.min(5))
            .min(LONGEST_WAIT)
    }

    /// Says why (now and then) and waits before the next try.
    pub async fn wait(&mut self, why: &dyn Display, screen: &Screen) {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if self
            .said
            .is_none_or(|said| now.duration_since(said) >= SAY_AGAIN)
        {
            self.said = Some(now);
            screen.say(format!(
                "{why}; trying again (for {} s now)",
                now.duration_since(since).as_secs()
            ));
        }
        let span = Self::span(self.tries);
        self.tries += 1;
        tokio::time::sleep(span).await;
    }

    /// The server is back.
    pub fn over(&mut self, screen: &Screen) {
        if let (Some(since), Some(_)) = (self.since.take(), self.said.take()) {
            screen.say(format!(
                "the server is back after {} s",
                since.elapsed().as_secs()
            ));
        }
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Patience;

    #[test]
    fn r2_waits_grow_and_stay_bounded() {
        let spans: Vec<_> = (0..8)
            .map(|tries| Patience::span(tries).as_millis())
            .collect();
        assert_eq!(spans, [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
        assert_eq!(Patience::span(u32::MAX), Duration::from_secs(15));
    }
}
