//! Whom a reservation is for.

use std::str::FromStr;

use farrier_engine::lease::Holder;
use farrier_proto::wire::option_setting::parse_hex;
use toml::Spanned;

use super::convert::Collector;
use super::file;

/// The one piece of evidence that `written` names.
pub(super) fn holder(
    key: &str,
    written: &file::Reservation,
    faults: &mut Collector<'_>,
) -> Option<Holder> {
    let mut bytes = |field: &str, text: &Option<Spanned<String>>| {
        let key = format!("{key}.{field}");
        let text = text.as_ref()?;
        faults.parse(&key, text, BYTES).map(|Evidence(bytes)| bytes)
    };
    let said = [
        written.mac.is_some(),
        written.uuid.is_some(),
        written.client_id.is_some(),
        written.circuit_id.is_some() || written.remote_id.is_some(),
    ];
    if said.into_iter().filter(|one| *one).count() != 1 {
        let at = Some(written.address.span());
        let what = "must name exactly one of mac, uuid, client_id, and circuit_id with remote_id";
        faults.add(key, at, what, "Say whom the address is kept for.");
        return None;
    }
    if written.client_id.is_some() {
        return bytes("client_id", &written.client_id).map(Holder::ClientId);
    }
    if said[3] {
        let circuit_id = bytes("circuit_id", &written.circuit_id);
        let remote_id = bytes("remote_id", &written.remote_id);
        let is_whole = circuit_id.is_some() == written.circuit_id.is_some()
            && remote_id.is_some() == written.remote_id.is_some();
        return is_whole.then_some(Holder::Port {
            circuit_id,
            remote_id,
        });
    }
    if let Some(mac) = &written.mac {
        let remedy = "Write six hex bytes such as 52:54:00:12:34:56.";
        return faults
            .parse(&format!("{key}.mac"), mac, remedy)
            .map(Holder::Mac);
    }
    let remedy = "Write it as the firmware's setup shows it.";
    let uuid = written.uuid.as_ref()?;
    faults
        .parse(&format!("{key}.uuid"), uuid, remedy)
        .map(Holder::Uuid)
}

/// What a client or a relay says of itself: bytes where it looks like them, else the text.
pub(crate) struct Evidence(pub(crate) Vec<u8>);

impl FromStr for Evidence {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = if text.starts_with("0x") {
            parse_hex(text).ok_or("it begins with 0x and is not hexadecimal")?
        } else {
            let listed = text.contains(':').then(|| parse_hex(text)).flatten();
            listed.unwrap_or_else(|| text.as_bytes().to_vec())
        };
        // Option 82 holds at most this in one sub-option, and an empty one says nothing.
        if bytes.is_empty() || bytes.len() > 255 {
            return Err("it must have from 1 to 255 bytes");
        }
        Ok(Self(bytes))
    }
}

const BYTES: &str =
    "Write bytes such as \"01:52:54:00:12:34:56\" or \"0x0004\", or the text that is sent.";
