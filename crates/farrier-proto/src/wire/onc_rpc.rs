//! The calls of ONC RPC (RFC 5531) that a diskless SunOS makes after RARP: it asks the port mapper (RFC 1833) for
//! `bootparam`, which would name its root file system. We serve none, and say so.

use super::DecodeError;

/// Where the port mapper is asked.
pub const PORT_MAPPER: u16 = 111;
/// The program `bootparam`.
pub const BOOTPARAM: u32 = 100_026;
/// The port mapper's own number.
const PORT_MAP: u32 = 100_000;

/// A call, as far as we look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub xid: u32,
    /// Who is called.
    pub program: u32,
    pub version: u32,
    pub procedure: u32,
    /// Whom the port mapper is asked for or asked to call, if it is called so.
    pub about: Option<u32>,
}

impl Call {
    /// Reads a datagram.
    ///
    /// # Errors
    ///
    /// When it is no call of RPC version 2.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let word = |at: usize, what| word(bytes, at, what);
        let kind = word(4, "message type")?;
        if kind != CALL {
            return Err(wrong("message type", 4, "0 (call)", kind));
        }
        let rpc_version = word(8, "RPC version")?;
        if rpc_version != 2 {
            return Err(wrong("RPC version", 8, "2", rpc_version));
        }
        let (program, procedure) = (word(12, "program")?, word(20, "procedure")?);
        let arguments = behind_credentials(bytes)?;
        let is_asked = program == PORT_MAP && matches!(procedure, GET_PORT | CALL_IT);
        Ok(Self {
            xid: word(0, "xid")?,
            program,
            version: word(16, "version")?,
            procedure,
            about: word(arguments, "arguments").ok().filter(|_| is_asked),
        })
    }

    /// Whether it is about `bootparam`, by itself or through the port mapper.
    #[must_use]
    pub fn wants_bootparam(&self) -> bool {
        self.program == BOOTPARAM || self.about == Some(BOOTPARAM)
    }

    /// The refusal: port 0 to who asks for a port, "no such program" to who calls one. A call that the port mapper
    /// is to pass on is answered only if it succeeds (RFC 1833 section 3.2), so it gets nothing.
    #[must_use]
    pub fn refusal(&self) -> Option<Vec<u8>> {
        let (state, result): (u32, &[u32]) = match (self.program, self.procedure) {
            (PORT_MAP, CALL_IT) => return None,
            (PORT_MAP, NULL) => (SUCCESS, &[]),
            (PORT_MAP, GET_PORT) => (SUCCESS, &[0]),
            (PORT_MAP, _) => (NO_PROCEDURE, &[]),
            _ => (NO_PROGRAM, &[]),
        };
        // Accepted, with an empty verifier.
        let words = [self.xid, REPLY, 0, 0, 0, state];
        let words = words.iter().chain(result);
        Some(words.flat_map(|word| word.to_be_bytes()).collect())
    }
}

/// Where the arguments begin: behind two lots of flavor, length and body.
fn behind_credentials(bytes: &[u8]) -> Result<usize, DecodeError> {
    let mut at = 24;
    for what in ["credentials", "verifier"] {
        let length = word(bytes, at + 4, what)?;
        // RFC 5531 section 8.2.
        if length > 400 {
            return Err(wrong(what, at + 4, "400 bytes at most", length));
        }
        at += 8 + usize::try_from(length.next_multiple_of(4)).unwrap_or(400);
    }
    Ok(at)
}

fn word(bytes: &[u8], at: usize, what: &'static str) -> Result<u32, DecodeError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let word = rest.first_chunk().ok_or(DecodeError {
        what,
        offset: at,
        expected: "four bytes",
        found: rest.len(),
    })?;
    Ok(u32::from_be_bytes(*word))
}

fn wrong(what: &'static str, offset: usize, expected: &'static str, found: u32) -> DecodeError {
    DecodeError {
        what,
        offset,
        expected,
        found: usize::try_from(found).unwrap_or(usize::MAX),
    }
}

const CALL: u32 = 0;
const REPLY: u32 = 1;
const SUCCESS: u32 = 0;
const NO_PROGRAM: u32 = 1;
const NO_PROCEDURE: u32 = 3;
const NULL: u32 = 0;
const GET_PORT: u32 = 3;
const CALL_IT: u32 = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(program: u32, procedure: u32, arguments: &[u32]) -> Vec<u8> {
        // An empty credential and an empty verifier.
        let head = [7, 0, 2, program, 2, procedure, 0, 0, 0, 0];
        let words = head.iter().chain(arguments);
        words.flat_map(|word| word.to_be_bytes()).collect()
    }

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes
            .chunks(4)
            .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
            .collect()
    }

    #[test]
    fn rfc1833_bootparam_has_no_port() {
        let asked = Call::decode(&call(PORT_MAP, GET_PORT, &[BOOTPARAM, 1, 17, 0])).unwrap();
        assert!(asked.wants_bootparam());
        assert_eq!(words(&asked.refusal().unwrap()), [7, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn rfc5531_bootparam_itself_is_no_program_here() {
        let asked = Call::decode(&call(BOOTPARAM, 1, &[0x0a4d_0007])).unwrap();
        assert!(asked.wants_bootparam());
        assert_eq!(
            words(&asked.refusal().unwrap()),
            [7, 1, 0, 0, 0, NO_PROGRAM]
        );
    }

    #[test]
    fn rfc1833_3_2_calls_that_are_passed_on_fail_in_silence() {
        let asked = Call::decode(&call(PORT_MAP, CALL_IT, &[BOOTPARAM, 1, 1, 0])).unwrap();
        assert!(asked.wants_bootparam() && asked.refusal().is_none());
    }

    #[test]
    fn credentials_are_passed_over_and_bounded() {
        let mut bytes = call(PORT_MAP, GET_PORT, &[]);
        bytes.truncate(24);
        for word in [1, 5, 0x4142_4344, 0x4500_0000, 0, 0, BOOTPARAM] {
            bytes.extend(u32::to_be_bytes(word));
        }
        assert!(Call::decode(&bytes).unwrap().wants_bootparam());
        bytes[28..32].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(Call::decode(&bytes).is_err());
        // A reply, and another version of RPC.
        for (at, value) in [(7, 1), (11, 3)] {
            let mut bytes = call(PORT_MAP, GET_PORT, &[BOOTPARAM]);
            bytes[at] = value;
            assert!(Call::decode(&bytes).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_datagram_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(call) = Call::decode(&bytes) {
                prop_assert!(call.refusal().is_none_or(|reply| reply.len() <= 28));
            }
        }
    }
}
