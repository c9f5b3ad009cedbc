use super::{AdminAddress, AdminClient, CaPin, add_query};
use crate::admin::{MachineQuery, Registration};

fn client() -> AdminClient {
    AdminClient::new(
        "https://boot.example:8443".parse().unwrap(),
        CaPin([1; 32]),
        None,
    )
    .unwrap()
}

#[test]
fn an_address_is_https_with_a_host_and_nothing_more() {
    for (text, good) in [
        ("https://127.0.0.1:8443", true),
        ("https://boot.example:8443/", true),
        ("https://[2001:db8::1]:8443", true),
        ("http://127.0.0.1:8443", false),
        ("127.0.0.1:8443", false),
        ("https://127.0.0.1:8443/machines", false),
        ("https://ada@127.0.0.1:8443", false),
        ("https://127.0.0.1:8443?x", false),
        ("", false),
    ] {
        assert_eq!(text.parse::<AdminAddress>().is_ok(), good, "{text}");
    }
    let address: AdminAddress = "https://boot.example:8443/".parse().unwrap();
    assert_eq!(address.to_string(), "https://boot.example:8443");
}

#[test]
fn what_a_person_types_never_leaves_its_path_segment() {
    for (typed, end) in [
        ("lab-07", "lab-07"),
        ("a/b?c#d", "a%2Fb%3Fc%23d"),
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
    ] {
        let url = format!("https://boot.example:8443/api/v1/machines/{end}");
        assert_eq!(client().url(&["machines", typed]).as_str(), url);
    }
}

#[test]
fn only_what_is_set_is_asked() {
    let mut url = client().url(&["machines"]);
    add_query(&mut url, &MachineQuery::default()).unwrap();
    assert_eq!(url.query(), None);
    let query = MachineQuery {
        search: Some("a b&c".to_owned()),
        registration: Some(Registration::Seen),
        limit: Some(5),
        ..MachineQuery::default()
    };
    add_query(&mut url, &query).unwrap();
    let pairs: Vec<_> = url.query_pairs().collect();
    let expected = [
        ("limit", "5"),
        ("registration", "seen"),
        ("search", "a b&c"),
    ];
    assert_eq!(pairs.len(), expected.len());
    for (name, value) in expected {
        assert!(pairs.iter().any(|(n, v)| n == name && v == value), "{name}");
    }
}

#[test]
fn t14_the_token_is_not_shown() {
    let server = "https://boot.example:8443".parse().unwrap();
    let client =
        AdminClient::new(server, CaPin([1; 32]), Some("farrier_canary".to_owned())).unwrap();
    assert!(!format!("{client:?}").contains("canary"));
}
