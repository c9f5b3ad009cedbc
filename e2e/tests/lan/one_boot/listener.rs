//! What somebody reads who listens to all of a boot.

use std::net::Ipv4Addr;

use farrier_e2e::{Capture, capture::Stream};

use super::{AGENT_PLANE, BOOT_PLANE, asked};

/// F9, X3: script, kernel and RAM disk came by HTTP. Returns the one thing in the parameters that nobody else may
/// have, and that is used up by now.
pub(super) fn script_and_files_by_http(capture: &Capture, address: Ipv4Addr) -> String {
    for path in ["/vmlinuz", "/agent.img"] {
        assert_eq!(asked(capture, address, path).to, BOOT_PLANE, "{path}");
    }
    // Z16: iPXE was told a name, and asked for what is behind it once.
    let asked_for = |s: &&Stream| s.to == BOOT_PLANE && *s.from.ip() == address;
    let asked_for = capture.streams.iter().filter(asked_for);
    let named = asked_for.map(|s| {
        String::from_utf8_lossy(&s.bytes)
            .matches("GET /boot/named/")
            .count()
    });
    assert_eq!(named.sum::<usize>(), 1, "a name that is good once");
    let scripts = capture.streams.iter().filter(|s| s.from == BOOT_PLANE);
    let script = scripts
        .map(|stream| String::from_utf8_lossy(&stream.bytes))
        .find(|text| text.contains("farrier.token="))
        .expect("the script is in the recording");
    let line = script.lines().find(|l| l.starts_with("kernel ")).unwrap();
    let names: Vec<&str> = line
        .split(' ')
        .filter_map(|word| Some(word.split_once('=')?.0))
        .filter(|name| name.starts_with("farrier."))
        .collect();
    let expected = ["server", "ca", "token", "mac", "time", "address"];
    assert_eq!(names, expected.map(|name| format!("farrier.{name}")));
    let token = line.split("farrier.token=").nth(1).unwrap();
    token.split(' ').next().unwrap().to_owned()
}

/// T13: until the agent is loaded nothing is encrypted, and from then on everything is, by TLS 1.3.
pub(super) fn encrypted_behind_the_loader(capture: &Capture, address: Ipv4Addr) {
    let loaded = asked(capture, address, "/agent.img").began;
    let own = |stream: &&Stream| *stream.from.ip() == address;
    let later: Vec<_> = capture
        .streams
        .iter()
        .filter(own)
        .filter(|s| s.began > loaded)
        .collect();
    assert!(!later.is_empty());
    for stream in later {
        assert_eq!(stream.to, AGENT_PLANE);
        assert!(stream.whole);
        is_all_records(&stream.bytes);
    }
    let agent_plane = |s: &&Stream| s.from == AGENT_PLANE || s.to == AGENT_PLANE;
    for stream in capture.streams.iter().filter(agent_plane) {
        assert!(stream.began > loaded, "TLS before the loader");
        if stream.from == AGENT_PLANE {
            assert_eq!(version(&stream.bytes), Some(0x0304), "TLS 1.3 only");
            is_all_records(&stream.bytes);
        }
    }
}

/// Records of TLS from end to end: one hello in the clear, then only what is encrypted (RFC 8446 section 5.1).
fn is_all_records(mut bytes: &[u8]) {
    let mut clear = 0;
    while let [kind, 3, _, high, low, rest @ ..] = bytes {
        assert!([20, 22, 23].contains(kind), "a record of kind {kind}");
        clear += usize::from(*kind == 22);
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // The recording may end inside the last one.
        bytes = rest.get(length..).unwrap_or_default();
    }
    assert_eq!(clear, 1, "one hello");
    assert!(bytes.len() < 5, "something that is no TLS");
}

/// What a ServerHello chose in its extension 43 (RFC 8446 section 4.2.1).
fn version(bytes: &[u8]) -> Option<u16> {
    let hello = bytes.get(9..).filter(|_| bytes[0] == 22 && bytes[5] == 2)?;
    let session = usize::from(*hello.get(34)?);
    let mut extensions = hello.get(35 + session + 5..)?;
    loop {
        let number = |at: usize| {
            Some(u16::from_be_bytes([
                *extensions.get(at)?,
                *extensions.get(at + 1)?,
            ]))
        };
        let length = usize::from(number(2)?);
        if number(0)? == 43 {
            return number(4);
        }
        extensions = extensions.get(4 + length..)?;
    }
}
