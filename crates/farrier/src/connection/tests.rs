use std::path::PathBuf;

use farrier_api::client::{AdminAddress, CaPin};

use super::{Options, Way};
use crate::credentials::{Credentials, Entry};

const HERE: &str = "https://127.0.0.1:8443";

fn pin(byte: u8) -> CaPin {
    CaPin([byte; 32])
}

fn stored() -> Credentials {
    let mut stored = Credentials::default();
    stored.put(Entry {
        server: HERE.to_owned(),
        ca: pin(1).to_string(),
        name: "ada".to_owned(),
        token: "session".to_owned(),
        expires: 1000,
    });
    stored
}

fn local() -> Option<Way> {
    Some(Way {
        pin: pin(2),
        token: "local".to_owned(),
    })
}

#[test]
fn t14_every_token_goes_only_to_the_authority_it_came_with() {
    let here: AdminAddress = HERE.parse().unwrap();
    let plain = Options::default;
    let named = || Options {
        data: Some(PathBuf::from("/srv")),
        ..plain()
    };
    let pinned = |byte| Options {
        ca: Some(pin(byte)),
        ..plain()
    };
    let none = Credentials::default;
    let env = || Some("environment".to_owned());
    for (name, options, token, stored, local, now, expected) in [
        (
            "session first",
            plain(),
            None,
            stored(),
            local(),
            500,
            Some((1, "session")),
        ),
        (
            "the folder that was named",
            named(),
            None,
            stored(),
            local(),
            500,
            Some((2, "local")),
        ),
        (
            "an ended session gives way",
            plain(),
            None,
            stored(),
            local(),
            2000,
            Some((2, "local")),
        ),
        (
            "an ended session alone",
            plain(),
            None,
            stored(),
            None,
            2000,
            None,
        ),
        ("nothing", plain(), None, none(), None, 0, None),
        (
            "environment, pinned before",
            plain(),
            env(),
            stored(),
            None,
            2000,
            Some((1, "environment")),
        ),
        (
            "environment, local authority",
            plain(),
            env(),
            none(),
            local(),
            0,
            Some((2, "environment")),
        ),
        (
            "environment, nothing pinned",
            plain(),
            env(),
            none(),
            None,
            0,
            None,
        ),
        (
            "environment, pinned now",
            pinned(9),
            env(),
            none(),
            None,
            0,
            Some((9, "environment")),
        ),
        (
            "session for another authority",
            pinned(9),
            None,
            stored(),
            local(),
            500,
            None,
        ),
        (
            "local token for its authority",
            pinned(2),
            None,
            stored(),
            local(),
            500,
            Some((2, "local")),
        ),
    ] {
        let found = options.choose(&here, token, &stored, local, now).ok();
        let found = found.as_ref().map(|way| (way.pin, way.token.as_str()));
        assert_eq!(
            found,
            expected.map(|(byte, token)| (pin(byte), token)),
            "{name}"
        );
    }
}

#[test]
fn fingerprints_read_as_openssl_writes_them() {
    let written = vec!["A5"; 32].join(":");
    assert_eq!(super::fingerprint(&written), Ok(pin(0xa5)));
    assert_eq!(super::fingerprint(&pin(0xa5).to_string()), Ok(pin(0xa5)));
    assert!(super::fingerprint("A5:A5").is_err());
}

#[test]
fn the_server_is_the_named_one_the_last_one_or_this_host() {
    let mut stored = stored();
    stored.put(Entry {
        server: "https://boot.example:8443".to_owned(),
        ..stored.of(HERE).unwrap().clone()
    });
    let server =
        |options: &Options, stored: &Credentials| options.address(stored).unwrap().to_string();
    let plain = Options::default();
    assert_eq!(server(&plain, &stored), "https://boot.example:8443");
    assert_eq!(server(&plain, &Credentials::default()), HERE);
    let here = Options {
        data: Some(PathBuf::from("/srv")),
        ..Options::default()
    };
    assert_eq!(server(&here, &stored), HERE);
    let named = Options {
        server: Some("https://[::1]:1".parse().unwrap()),
        ..Options::default()
    };
    assert_eq!(server(&named, &stored), "https://[::1]:1");
}
