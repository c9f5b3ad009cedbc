use super::*;

fn one(text: &str) -> Written {
    Written::Text(text.to_owned())
}

fn list(items: &[&str]) -> Written {
    Written::List(items.iter().map(|text| one(text)).collect())
}

#[test]
fn rfc2132_forms_as_written() {
    let rows: [(Form, Written, &[u8]); 17] = [
        (Form::Address, one("10.0.0.1"), &[10, 0, 0, 1]),
        (Form::Addresses, one("10.0.0.1"), &[10, 0, 0, 1]),
        (
            Form::Addresses,
            list(&["10.0.0.1", "10.0.0.2"]),
            &[10, 0, 0, 1, 10, 0, 0, 2],
        ),
        (
            Form::AddressPairs,
            list(&["10.1.0.9 10.0.0.1"]),
            &[10, 1, 0, 9, 10, 0, 0, 1],
        ),
        (Form::Bytes, one("01:0a:FF"), &[1, 10, 255]),
        (Form::Bytes, one("0x010aff"), &[1, 10, 255]),
        (Form::Flag, Written::Flag(true), &[1]),
        (Form::I32, Written::Number(-3600), &[0xff, 0xff, 0xf1, 0xf0]),
        (Form::U8, Written::Number(255), &[255]),
        (Form::U16, Written::Number(1500), &[5, 220]),
        (
            Form::U16s,
            Written::List(vec![Written::Number(68), Written::Number(1500)]),
            &[0, 68, 5, 220],
        ),
        (Form::U32, Written::Number(1), &[0, 0, 0, 1]),
        (Form::Text, one("a b"), b"a b"),
        // RFC 3397 section 2, without the compression.
        (Form::Names, list(&["ab.c.", "d"]), b"\x02ab\x01c\0\x01d\0"),
        // RFC 3442, the table of its section on the form of the option.
        (
            Form::Routes,
            list(&["0.0.0.0/0 via 10.0.0.1", "10.0.0.0/8 via 10.0.0.2"]),
            &[0, 10, 0, 0, 1, 8, 10, 10, 0, 0, 2],
        ),
        (
            Form::Routes,
            one("10.27.129.0/24 via 10.0.0.1"),
            &[24, 10, 27, 129, 10, 0, 0, 1],
        ),
        (
            Form::Routes,
            one("10.229.0.128/25 via 10.0.0.1"),
            &[25, 10, 229, 0, 128, 10, 0, 0, 1],
        ),
    ];
    for (form, written, bytes) in rows {
        let encoded = encode(form, &written);
        assert_eq!(encoded.as_deref(), Ok(bytes), "{form:?} {written:?}");
        assert!(form.allows(bytes.len()), "{form:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_an_example() {
    let long = format!("{}.org", "a".repeat(64));
    let rows = [
        (Form::Address, one("10.0.0"), "IPv4 address"),
        (Form::Address, Written::Number(1), "IPv4 address"),
        (Form::Addresses, Written::List(vec![]), "at least one"),
        (Form::AddressPairs, one("10.0.0.1"), "two IPv4"),
        (Form::Bytes, one("0g"), "hexadecimal"),
        (Form::Bytes, one("1:02"), "hexadecimal"),
        (Form::Bytes, one("éa"), "hexadecimal"),
        (Form::Bytes, one(""), "hexadecimal"),
        (Form::Flag, Written::Number(1), "true or false"),
        (Form::U8, Written::Number(256), "0 to 255"),
        (Form::U16, Written::Number(-1), "0 to 65535"),
        (Form::U32, one("5"), "0 to 4294967295"),
        (Form::Text, one(""), "a text"),
        (Form::Text, one("a\0b"), "a text"),
        (Form::Names, one("a..b"), "domain name"),
        (Form::Names, one(&long), "domain name"),
        (Form::Names, one("a b"), "domain name"),
        (Form::Routes, one("10.1.0.0/8 via 10.0.0.1"), "its router"),
        (Form::Routes, one("10.0.0.0/33 via 10.0.0.1"), "its router"),
        (Form::Routes, one("10.0.0.0/8"), "its router"),
        (Form::Text, one(&"x".repeat(1025)), "less"),
    ];
    for (form, written, words) in rows {
        let error = encode(form, &written).unwrap_err().to_string();
        assert!(error.contains(words), "{form:?} {written:?}: {error}");
    }
}
