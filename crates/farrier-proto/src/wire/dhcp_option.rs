//! DHCP options in wire order (RFC 2132), with long options joined and split by RFC 3396.

/// Options in the order they came or will be sent. Unknown codes are kept verbatim; a code that
/// came in several pieces is joined at the place of its first piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    /// The value of `code`.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.iter().find(|(c, _)| *c == code).map(|(_, v)| v.as_slice())
    }

    /// Sets `code`, at the end if it is new.
    pub fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        let value = value.into();
        match self.0.iter_mut().find(|(c, _)| *c == code) {
            Some((_, v)) => *v = value,
            None => self.0.push((code, value)),
        }
    }

    /// All options in order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(c, v)| (*c, v.as_slice()))
    }
}
