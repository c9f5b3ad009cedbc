//! From values as people write them in a configuration to the bytes of an option.

use std::net::Ipv4Addr;

use super::option::Form;

/// A value as it was written, before it is known what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    Flag(bool),
    Number(i64),
    Text(String),
    List(Vec<Self>),
}

/// What was written is not what the option takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found} cannot be used: write {expected}")]
pub struct WrittenError {
    /// The part that is wrong.
    pub found: String,
    /// With an example.
    pub expected: &'static str,
}

/// The bytes of `written` for an option of this form. Never empty: an option without a value is malformed for
/// all but a few, which nobody sets (RFC 2132 section 2).
pub fn encode(form: Form, written: &Written) -> Result<Vec<u8>, WrittenError> {
    let bytes = match form {
        Form::Address => address(written)?.octets().to_vec(),
        Form::Addresses => joined(written, |one| address(one).map(|a| a.octets()))?,
        Form::AddressPairs => joined(written, pair)?,
        Form::Bytes | Form::Encapsulated => hex(written)?,
        Form::Codes => joined(written, |one| number::<u8>(one).map(|n| [n]))?,
        Form::Flag => match written {
            Written::Flag(flag) => vec![u8::from(*flag)],
            other => return Err(wrong(other, "true or false")),
        },
        Form::I32 => number::<i32>(written)?.to_be_bytes().to_vec(),
        Form::Names => joined(written, name)?,
        Form::Routes => joined(written, route)?,
        Form::Text => text(written)?.as_bytes().to_vec(),
        Form::U8 => vec![number(written)?],
        Form::U16 => number::<u16>(written)?.to_be_bytes().to_vec(),
        Form::U16s => joined(written, |one| number::<u16>(one).map(u16::to_be_bytes))?,
        Form::U32 => number::<u32>(written)?.to_be_bytes().to_vec(),
    };
    if bytes.is_empty() {
        return Err(wrong(written, "at least one value"));
    }
    if bytes.len() > MAX_LEN {
        return Err(wrong(
            written,
            "less: all of it must fit 1024 bytes, as a reply is one packet",
        ));
    }
    Ok(bytes)
}

/// Bytes as `01:02:ff`, `0102ff` or `0x0102ff`.
#[must_use]
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits: Vec<u8> = if text.contains(':') {
        let parts = text.split(':');
        if parts.clone().any(|part| part.len() != 2) {
            return None;
        }
        parts.flat_map(str::bytes).collect()
    } else {
        text.bytes().collect()
    };
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || pairs.is_empty() {
        return None;
    }
    let digit = |c: u8| {
        char::from(c)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    pairs.iter().map(byte).collect()
}

/// The names in a value of [`Form::Names`], if it is one without compression.
#[must_use]
pub fn names(value: &[u8]) -> Option<Vec<String>> {
    let (mut names, mut labels, mut at) = (Vec::new(), Vec::<&str>::new(), 0);
    while let Some(&len) = value.get(at) {
        let label = value.get(at + 1..at + 1 + usize::from(len))?;
        at += 1 + label.len();
        if len > MAX_LABEL {
            return None;
        }
        if !label.is_empty() {
            labels.push(std::str::from_utf8(label).ok()?);
            continue;
        }
        names.push(labels.join("."));
        labels.clear();
    }
    (labels.is_empty() && !names.is_empty()).then_some(names)
}

/// The routes in a value of [`Form::Routes`], as they are written in a configuration.
#[must_use]
pub fn routes(value: &[u8]) -> Option<Vec<String>> {
    let (mut routes, mut rest) = (Vec::new(), value);
    while let Some((&width, after)) = rest.split_first() {
        let significant = usize::from(width.div_ceil(8));
        let (network, after) = after.split_at_checked(significant)?;
        let (router, after) = after.split_first_chunk::<4>()?;
        let mut octets = [0; 4];
        octets.get_mut(..significant)?.copy_from_slice(network);
        let (network, router) = (Ipv4Addr::from(octets), Ipv4Addr::from(*router));
        routes.push(format!("{network}/{width} via {router}"));
        rest = after;
    }
    (!routes.is_empty()).then_some(routes)
}

/// One item, or each of a list, one after the other.
fn joined<T: AsRef<[u8]>>(
    written: &Written,
    one: impl Fn(&Written) -> Result<T, WrittenError>,
) -> Result<Vec<u8>, WrittenError> {
    let items = match written {
        Written::List(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    let mut bytes = Vec::new();
    for item in items {
        bytes.extend_from_slice(one(item)?.as_ref());
    }
    Ok(bytes)
}

fn text(written: &Written) -> Result<&str, WrittenError> {
    match written {
        Written::Text(text) if !text.is_empty() && !text.contains('\0') => Ok(text),
        other => Err(wrong(other, "a text in quotes, not empty")),
    }
}

fn number<T: TryFrom<i64> + Bounds>(written: &Written) -> Result<T, WrittenError> {
    let number = match written {
        Written::Number(number) => T::try_from(*number).ok(),
        _ => None,
    };
    number.ok_or_else(|| wrong(written, T::EXPECTED))
}

fn address(written: &Written) -> Result<Ipv4Addr, WrittenError> {
    parsed(written, str::parse)
        .ok_or_else(|| wrong(written, "an IPv4 address such as \"10.0.0.1\""))
}

fn pair(written: &Written) -> Result<[u8; 8], WrittenError> {
    let two = |text: &str| {
        let (first, second) = text.split_once(' ').ok_or(())?;
        let octets = |text: &str| text.trim().parse().map(Ipv4Addr::to_bits).map_err(drop);
        let both = u64::from(octets(first)?) << 32 | u64::from(octets(second)?);
        Ok::<_, ()>(both.to_be_bytes())
    };
    parsed(written, two).ok_or_else(|| {
        wrong(
            written,
            "two IPv4 addresses with a blank between, such as \"10.1.0.9 10.0.0.1\"",
        )
    })
}

fn name(written: &Written) -> Result<Vec<u8>, WrittenError> {
    let labels = |text: &str| {
        let mut bytes = Vec::new();
        for label in text.strip_suffix('.').unwrap_or(text).split('.') {
            let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
            let len = u8::try_from(label.len()).map_err(drop)?;
            if len == 0 || len > MAX_LABEL || !label.bytes().all(is_plain) {
                return Err(());
            }
            bytes.push(len);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        (bytes.len() <= MAX_NAME).then_some(bytes).ok_or(())
    };
    parsed(written, labels).ok_or_else(|| wrong(written, "a domain name such as \"example.org\""))
}

/// RFC 3442: the width of the mask, as many bytes of the destination as it covers, the router.
fn route(written: &Written) -> Result<Vec<u8>, WrittenError> {
    let one = |text: &str| {
        let (network, router) = text.split_once(" via ").ok_or(())?;
        let (network, width) = network.trim().split_once('/').ok_or(())?;
        let network: Ipv4Addr = network.parse().map_err(drop)?;
        let width: u8 = width.parse().map_err(drop)?;
        let router: Ipv4Addr = router.trim().parse().map_err(drop)?;
        let host = u32::MAX.checked_shr(width.into()).unwrap_or(0);
        if width > 32 || network.to_bits() & host != 0 {
            return Err(());
        }
        let mut bytes = vec![width];
        bytes.extend(network.octets().into_iter().take(width.div_ceil(8).into()));
        bytes.extend(router.octets());
        Ok(bytes)
    };
    parsed(written, one).ok_or_else(|| {
        wrong(
            written,
            "a network and its router, such as \"10.1.0.0/16 via 10.0.0.1\"",
        )
    })
}

fn hex(written: &Written) -> Result<Vec<u8>, WrittenError> {
    parsed(written, |text| parse_hex(text).ok_or(()))
        .ok_or_else(|| wrong(written, "bytes in hexadecimal, such as \"01:02:ff\""))
}

fn parsed<T, E>(written: &Written, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
    match written {
        Written::Text(text) => parse(text).ok(),
        _ => None,
    }
}

fn wrong(written: &Written, expected: &'static str) -> WrittenError {
    let found = match written {
        Written::Flag(flag) => flag.to_string(),
        Written::Number(number) => number.to_string(),
        Written::Text(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
        Written::List(items) => format!("a list of {}", items.len()),
    };
    WrittenError { found, expected }
}

trait Bounds {
    const EXPECTED: &str;
}

impl Bounds for u8 {
    const EXPECTED: &str = "a number from 0 to 255";
}

impl Bounds for u16 {
    const EXPECTED: &str = "a number from 0 to 65535";
}

impl Bounds for u32 {
    const EXPECTED: &str = "a number from 0 to 4294967295";
}

impl Bounds for i32 {
    const EXPECTED: &str = "a number from -2147483648 to 2147483647";
}

/// More than this fits no reply that also says what it must.
const MAX_LEN: usize = 1024;
/// RFC 1035 section 2.3.4.
const MAX_LABEL: u8 = 63;
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests;
