//! `in_subnet('10.1.0.0/16')`: whether the machine is in a range of addresses.

use std::net::IpAddr;
use std::str::FromStr;

use cel::ExecutionError;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};

use crate::whereabouts::Place;

/// A network address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    network: IpAddr,
    prefix: u8,
}

impl Range {
    pub(super) fn contains(self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let beyond = 32 - u32::from(self.prefix);
                let network_bits = |of: u32| of.checked_shr(beyond).unwrap_or(0);
                network_bits(network.to_bits()) == network_bits(address.to_bits())
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let beyond = 128 - u32::from(self.prefix);
                let network_bits = |of: u128| of.checked_shr(beyond).unwrap_or(0);
                network_bits(network.to_bits()) == network_bits(address.to_bits())
            }
            _ => false,
        }
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not a network such as 10.1.0.0/16 or fd00:1::/32");
        let (address, prefix) = text.split_once('/').ok_or_else(form)?;
        let network: IpAddr = address.parse().map_err(|_| form())?;
        let prefix: u8 = prefix.parse().map_err(|_| form())?;
        let (host_bits, bits) = match network {
            IpAddr::V4(network) => (network.to_bits().trailing_zeros(), 32),
            IpAddr::V6(network) => (network.to_bits().trailing_zeros(), 128),
        };
        if prefix > bits {
            return Err(format!("{text:?}: a prefix has at most {bits} bits"));
        }
        if host_bits < u32::from(bits - prefix) {
            return Err(format!(
                "{text:?} has bits set behind its prefix of {prefix}"
            ));
        }
        Ok(Self { network, prefix })
    }
}

/// What a call of the function comes to.
pub(super) fn holds(range: &str, place: &Place) -> Result<bool, ExecutionError> {
    let failed = |why: String| ExecutionError::function_error(NAME, why);
    let range: Range = range.parse().map_err(failed)?;
    let address = place.address.or(place.link);
    let address =
        address.ok_or_else(|| failed("it is not known where the machine is".to_owned()))?;
    Ok(range.contains(address))
}

/// What is wrong with a call that can be seen without judging it, and the text that it is about.
pub(super) fn fault(call: &CallExpr) -> Option<(String, String)> {
    if call.func_name != NAME {
        return None;
    }
    let wrong = (call.target.is_some() || call.args.len() != 1)
        .then(|| "in_subnet takes a network, as in in_subnet('10.1.0.0/16')".to_owned());
    if let Some(wrong) = wrong {
        return Some((wrong, NAME.to_owned()));
    }
    let Some(IdedExpr {
        expr: Expr::Literal(literal),
        ..
    }) = call.args.first()
    else {
        return None;
    };
    match literal {
        LiteralValue::String(text) => {
            let text = text.inner();
            let fault = text.parse::<Range>().err()?;
            Some((fault, text.to_owned()))
        }
        _ => Some((
            "in_subnet takes a text, as in in_subnet('10.1.0.0/16')".to_owned(),
            NAME.to_owned(),
        )),
    }
}

pub(super) const NAME: &str = "in_subnet";

#[cfg(test)]
mod tests {
    use super::Range;

    #[test]
    fn z25_ranges_hold_what_begins_like_them() {
        for (range, address, expected) in [
            ("10.1.0.0/16", "10.1.255.255", true),
            ("10.1.0.0/16", "10.2.0.0", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "fd00::1", false),
            ("fd00:1::/32", "fd00:1:ffff::1", true),
            ("fd00:1::/32", "fd00:2::1", false),
            ("::/0", "fd00::1", true),
            ("::/0", "10.0.0.1", false),
        ] {
            let range: Range = range.parse().unwrap();
            let address = address.parse().unwrap();
            assert_eq!(range.contains(address), expected, "{range:?} {address}");
        }
        for wrong in [
            "",
            "/",
            "10.1.0.0",
            "10.1.0.0/",
            "10.1.0.0/33",
            "10.1.0.1/16",
            "10.1/16",
            "fd00::/129",
            "fd00::1/64",
            "10.1.0.0/-1",
            "10.1.0.0/999",
            "office",
        ] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }
}
