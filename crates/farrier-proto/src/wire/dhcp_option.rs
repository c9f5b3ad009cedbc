//! DHCP options in wire order (RFC 2132), with long options joined and split by RFC 3396.

use super::option::{BOOTFILE_NAME, END, OPTION_OVERLOAD, PAD};

/// Options in the order they came or will be sent. Unknown codes are kept verbatim; a code that
/// came in several pieces is joined at the place of its first piece.
///
/// PAD, END and option overload (52) belong to the encoding, not to the content: they are never
/// found in here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(u8, Vec<u8>)>);

/// Where reading a run of options ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunEnd {
    /// At an end option.
    End,
    /// At the end of the bytes.
    Exhausted,
    /// The option `code` at `offset` says it is longer than what is left.
    Truncated { code: u8, offset: usize },
}

impl Options {
    /// The value of `code`.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(c, _)| *c == code)
            .map(|(_, v)| v.as_slice())
    }

    /// Whether `code` is present, even with an empty value.
    #[must_use]
    pub fn contains(&self, code: u8) -> bool {
        self.get(code).is_some()
    }

    /// Sets `code`, at the end if it is new. PAD, END and option overload are ignored.
    pub fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        if matches!(code, PAD | END | OPTION_OVERLOAD) {
            return;
        }
        let value = value.into();
        match self.0.iter_mut().find(|(c, _)| *c == code) {
            Some((_, v)) => *v = value,
            None => self.0.push((code, value)),
        }
    }

    /// Takes `code` out.
    pub fn remove(&mut self, code: u8) -> Option<Vec<u8>> {
        let at = self.0.iter().position(|(c, _)| *c == code)?;
        Some(self.0.remove(at).1)
    }

    /// All options in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(c, v)| (*c, v.as_slice()))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the bytes of all options, without END.
    ///
    /// One PAD follows option 67: several ROMs take its value for a NUL-terminated string and would
    /// ask for the name plus whatever byte comes next, and edk2 writes a NUL over that byte.
    pub(crate) fn encode_into(&self, bytes: &mut Vec<u8>) {
        for (code, value) in &self.0 {
            encode_option(*code, value, bytes);
            if *code == BOOTFILE_NAME {
                bytes.push(PAD);
            }
        }
    }

    /// How many bytes all options take on the wire, without END.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.0
            .iter()
            .map(|(code, value)| encoded_option_len(*code, value.len()))
            .sum()
    }

    /// Reads the options in `bytes`, which start at `offset` of the message. Returns how it ended
    /// and the value of option overload if there was one.
    pub(crate) fn decode_from(&mut self, bytes: &[u8], offset: usize) -> (RunEnd, Option<u8>) {
        let mut overload = None;
        let mut at = 0;
        while let Some(&code) = bytes.get(at) {
            at += 1;
            match code {
                PAD => continue,
                END => return (RunEnd::End, overload),
                _ => {}
            }
            let value = bytes
                .get(at)
                .and_then(|&length| bytes.get(at + 1..at + 1 + usize::from(length)));
            let Some(value) = value else {
                return (
                    RunEnd::Truncated {
                        code,
                        offset: offset + at - 1,
                    },
                    overload,
                );
            };
            at += 1 + value.len();
            if code == OPTION_OVERLOAD {
                overload = value.first().copied();
            } else {
                self.join(code, value);
            }
        }
        (RunEnd::Exhausted, overload)
    }

    /// RFC 3396 section 7: pieces of one option are one value, in the order they come.
    fn join(&mut self, code: u8, piece: &[u8]) {
        match self.0.iter_mut().find(|(c, _)| *c == code) {
            Some((_, value)) => value.extend_from_slice(piece),
            None => self.0.push((code, piece.to_vec())),
        }
    }
}

impl FromIterator<(u8, Vec<u8>)> for Options {
    fn from_iter<T: IntoIterator<Item = (u8, Vec<u8>)>>(iter: T) -> Self {
        let mut options = Self::default();
        for (code, value) in iter {
            options.set(code, value);
        }
        options
    }
}

/// RFC 3396 section 6: a value over 255 bytes is split into pieces under the same code.
fn encode_option(code: u8, value: &[u8], bytes: &mut Vec<u8>) {
    if value.is_empty() {
        bytes.extend([code, 0]);
    }
    for piece in value.chunks(usize::from(u8::MAX)) {
        bytes.push(code);
        bytes.push(u8::try_from(piece.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(piece);
    }
}

fn encoded_option_len(code: u8, length: usize) -> usize {
    let pieces = length.div_ceil(usize::from(u8::MAX)).max(1);
    2 * pieces + length + usize::from(code == BOOTFILE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> (Options, RunEnd) {
        let mut options = Options::default();
        let (end, _) = options.decode_from(bytes, 240);
        (options, end)
    }

    #[test]
    fn rfc3396_pieces_join_in_order_at_the_first_place() {
        let (options, end) = decode(&[67, 2, b'a', b'b', 12, 1, b'h', 67, 1, b'c', 255]);
        let expected: Vec<(u8, &[u8])> = vec![(67, b"abc"), (12, b"h")];
        assert_eq!(options.iter().collect::<Vec<_>>(), expected);
        assert_eq!(end, RunEnd::End);
    }

    #[test]
    fn rfc3396_long_values_split_and_join() {
        for length in [0, 1, 254, 255, 256, 510, 511, 1000] {
            let mut options = Options::default();
            options.set(43, vec![7; length]);
            options.set(12, *b"after");
            let mut bytes = Vec::new();
            options.encode_into(&mut bytes);
            assert_eq!(bytes.len(), options.encoded_len(), "{length}");
            assert_eq!(decode(&bytes).0, options, "{length}");
        }
    }

    #[test]
    fn option_67_is_followed_by_one_pad() {
        let mut options = Options::default();
        options.set(67, *b"x");
        options.set(82, [1, 1, 9]);
        let mut bytes = Vec::new();
        options.encode_into(&mut bytes);
        assert_eq!(bytes, [67, 1, b'x', 0, 82, 3, 1, 1, 9]);
        assert_eq!(bytes.len(), options.encoded_len());
    }

    #[test]
    fn cut_off_options_end_the_run_and_keep_what_came_before() {
        for (bytes, offset) in [(&[53, 1, 1, 60][..], 243), (&[53, 1, 1, 60, 9, b'P'], 243)] {
            let (options, end) = decode(bytes);
            assert_eq!(options.get(53), Some(&[1][..]));
            assert_eq!(end, RunEnd::Truncated { code: 60, offset });
        }
    }

    #[test]
    fn codes_of_the_encoding_are_not_content() {
        let options: Options = [0, 52, 255]
            .map(|code| (code, vec![1]))
            .into_iter()
            .collect();
        assert!(options.is_empty());
    }
}
