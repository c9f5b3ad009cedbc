//! DHCP options in wire order (RFC 2132), with long options joined and split by RFC 3396.

use std::fmt;
use std::ops::Range;

use super::option::{BOOTFILE_NAME, END, OPTION_OVERLOAD, PAD};

/// Options in the order they came or will be sent. Unknown codes are kept verbatim; a code that
/// came in several pieces is joined at the place of its first piece.
///
/// PAD, END and option overload (52) belong to the encoding, not to the content: they are never
/// found in here.
///
/// All values lie in one piece of memory: a packet has some fifteen, of a few bytes each.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The values one after the other, in the order of `ends`.
    values: Vec<u8>,
    /// Each code, and where its value ends. The next one begins there.
    ends: Vec<(u8, usize)>,
}

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
        let at = self.position(code)?;
        Some(&self.values[self.range(at)])
    }

    /// Whether `code` is present, even with an empty value.
    #[must_use]
    pub fn contains(&self, code: u8) -> bool {
        self.get(code).is_some()
    }

    /// Sets `code`, at the end if it is new. PAD, END and option overload are ignored.
    pub fn set(&mut self, code: u8, value: impl AsRef<[u8]>) {
        if matches!(code, PAD | END | OPTION_OVERLOAD) {
            return;
        }
        match self.position(code) {
            Some(at) => self.replace(at, self.range(at), value.as_ref()),
            None => self.push(code, value.as_ref()),
        }
    }

    /// Takes `code` out.
    pub fn remove(&mut self, code: u8) -> Option<Vec<u8>> {
        let at = self.position(code)?;
        let value = self.values[self.range(at)].to_vec();
        self.replace(at, self.range(at), &[]);
        self.ends.remove(at);
        Some(value)
    }

    /// All options in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u8, &[u8])> {
        let all = self.ends.iter().enumerate();
        all.map(|(at, (code, _))| (*code, &self.values[self.range(at)]))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Appends the bytes of all options, without END.
    ///
    /// One PAD follows option 67: several ROMs take its value for a NUL-terminated string and would
    /// ask for the name plus whatever byte comes next, and edk2 writes a NUL over that byte.
    pub(crate) fn encode_into(&self, bytes: &mut Vec<u8>) {
        for (code, value) in self.iter() {
            encode_option(code, value, bytes);
            if code == BOOTFILE_NAME {
                bytes.push(PAD);
            }
        }
    }

    /// How many bytes all options take on the wire, without END.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.iter()
            .map(|(code, value)| encoded_option_len(code, value.len()))
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
        match self.position(code) {
            Some(at) => {
                let end = self.range(at).end;
                self.replace(at, end..end, piece);
            }
            None => self.push(code, piece),
        }
    }

    fn position(&self, code: u8) -> Option<usize> {
        self.ends.iter().position(|(other, _)| *other == code)
    }

    /// Where the value of the option at this place lies.
    fn range(&self, at: usize) -> Range<usize> {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before].1);
        start..self.ends[at].1
    }

    fn push(&mut self, code: u8, value: &[u8]) {
        if self.ends.is_empty() {
            self.ends.reserve(USUAL_OPTIONS);
            self.values.reserve(USUAL_BYTES);
        }
        self.values.extend_from_slice(value);
        self.ends.push((code, self.values.len()));
    }

    /// Puts `bytes` in the place of `range`, which lies in the value of the option at this place.
    fn replace(&mut self, at: usize, range: Range<usize>, bytes: &[u8]) {
        let (gone, come) = (range.len(), bytes.len());
        self.values.splice(range, bytes.iter().copied());
        for (_, end) in &mut self.ends[at..] {
            *end = *end - gone + come;
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
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

const USUAL_OPTIONS: usize = 16;
const USUAL_BYTES: usize = 256;

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
    fn a_value_is_set_changed_and_taken_out_without_touching_the_others() {
        let mut options = Options::default();
        for (code, value) in [(53, &b"1"[..]), (60, b"PXEClient"), (93, b"00"), (12, b"")] {
            options.set(code, value);
        }
        options.set(60, b"HTTPClient:Arch");
        options.set(53, b"");
        options.set(12, b"name");
        let changed: Vec<(u8, &[u8])> = vec![
            (53, b""),
            (60, b"HTTPClient:Arch"),
            (93, b"00"),
            (12, b"name"),
        ];
        assert_eq!(options.iter().collect::<Vec<_>>(), changed);
        assert_eq!(options.remove(60), Some(b"HTTPClient:Arch".to_vec()));
        assert_eq!((options.remove(60), options.get(60)), (None, None));
        let left: Vec<(u8, &[u8])> = vec![(53, b""), (93, b"00"), (12, b"name")];
        assert_eq!(options.iter().collect::<Vec<_>>(), left);
        let others: Options = left.iter().map(|(code, v)| (*code, v.to_vec())).collect();
        assert_eq!(options, others, "how it came to be does not matter");
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
