//! Places in an image where each machine has a value of its own: `{{FARRIER_HOME              }}`.
//!
//! The value stands from the place's first brace on, and spaces fill the rest up to its last one. So nothing else in
//! the image moves, and a value can only be as long as its place.

use farrier_engine::medium_value::{ValueName, ValueText};

const OPEN: &[u8] = b"{{";
const CLOSE: &[u8] = b"}}";
/// `FARRIER_` and the longest name.
const LONGEST_VARIABLE: usize = 8 + ValueName::MAX;
/// With room for the longest value.
pub const WIDEST: usize = 128;

/// The value does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{variable} has {len} characters here, and a place for it only {width}: put spaces in front of its closing braces, or \
     choose a shorter value"
)]
pub struct TooNarrow {
    pub variable: String,
    pub len: usize,
    pub width: usize,
}

/// Shows `work` the name and the bytes of each place, from the first to the last; returns whether there is any.
pub fn each<E>(
    bytes: &mut [u8],
    mut work: impl FnMut(ValueName, &mut [u8]) -> Result<(), E>,
) -> Result<bool, E> {
    let (mut at, mut any) = (0, false);
    while let Some(brace) = bytes[at..].iter().position(|b| *b == OPEN[0]) {
        at += brace;
        match place(&bytes[at..]) {
            Some((name, width)) => {
                work(name, &mut bytes[at..at + width])?;
                (at, any) = (at + width, true);
            }
            None => at += 1,
        }
    }
    Ok(any)
}

/// Puts a value in its place; nothing but spaces where none is known.
pub fn fill(place: &mut [u8], name: &ValueName, text: Option<&ValueText>) -> Result<(), TooNarrow> {
    let text = text.map_or("", ValueText::as_str).as_bytes();
    let width = place.len();
    let (value, rest) = place
        .split_at_mut_checked(text.len())
        .ok_or_else(|| TooNarrow {
            variable: name.variable(),
            len: text.len(),
            width,
        })?;
    value.copy_from_slice(text);
    rest.fill(b' ');
    Ok(())
}

/// The place that these bytes begin with: its name and its width.
fn place(bytes: &[u8]) -> Option<(ValueName, usize)> {
    let inner = bytes.strip_prefix(OPEN)?;
    let is_of_name = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    let len = inner.iter().take_while(|b| is_of_name(b)).count();
    if len > LONGEST_VARIABLE {
        return None;
    }
    let (variable, rest) = inner.split_at(len);
    let room = WIDEST - OPEN.len() - CLOSE.len() - len;
    let spaces = rest.iter().take(room).take_while(|b| **b == b' ').count();
    rest[spaces..].strip_prefix(CLOSE)?;
    let name = ValueName::of_variable(std::str::from_utf8(variable).ok()?)?;
    Some((name, OPEN.len() + len + spaces + CLOSE.len()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        each(&mut text.as_bytes().to_vec(), |name, place| {
            found.push((name.to_string(), place.len()));
            Ok::<_, Infallible>(())
        })
        .unwrap();
        found
    }

    fn filled(bytes: &[u8], text: Option<&ValueText>) -> Result<Vec<u8>, TooNarrow> {
        let mut bytes = bytes.to_vec();
        each(&mut bytes, |name, place| fill(place, &name, text))?;
        Ok(bytes)
    }

    #[test]
    fn r9_what_is_a_place_and_what_is_not() {
        let wide = format!("{{{{FARRIER_X{}}}}}", " ".repeat(WIDEST - 13));
        let wider = wide.replace("}}", " }}");
        for (text, expected) in [
            ("name={{FARRIER_NAME}}\r\n", &[("name", 16)][..]),
            ("{{FARRIER_HOME      }}", &[("home", 22)]),
            ("{{FARRIER_A}}{{FARRIER_B }}", &[("a", 13), ("b", 14)]),
            ("{{{FARRIER_A}}}", &[("a", 13)]),
            ("{{ FARRIER_A}}", &[]),
            ("{{FARRIER_A }", &[]),
            ("{{FARRIER_A\t}}", &[]),
            ("{{farrier_a}}", &[]),
            ("{{FARRIER_}}", &[]),
            ("{{FARRIER_2ND}}", &[]),
            ("{{FARRIER_ABCDEFGHIJKLMNOPQ}}", &[]),
            ("{{HOME}}", &[]),
            ("{{", &[]),
            (&wide, &[("x", WIDEST)]),
            (&wider, &[]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(n, w)| ((*n).to_owned(), *w))
                .collect();
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn r9_a_value_stands_in_its_place_and_spaces_behind_it() {
        let text = ValueText::new(r"\\srv\home").unwrap();
        let of = |text| filled(b"HOME={{FARRIER_HOME}};\r\n", text).unwrap();
        assert_eq!(of(Some(&text)), b"HOME=\\\\srv\\home      ;\r\n");
        assert_eq!(of(None), b"HOME=                ;\r\n");
    }

    #[test]
    fn r9_a_value_that_is_longer_than_its_place_is_refused() {
        let exact = ValueText::new("x".repeat(16)).unwrap();
        assert!(filled(b"{{FARRIER_HOME}}", Some(&exact)).is_ok());
        let longer = ValueText::new("x".repeat(17)).unwrap();
        let refused = filled(b"{{FARRIER_HOME}}", Some(&longer)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "FARRIER_HOME has 17 characters here, and a place for it only 16: put spaces in front of its closing \
             braces, or choose a shorter value"
        );
    }

    proptest! {
        /// Whatever an image holds and whatever the value is: only bytes of places change, and what is filled holds no
        /// place any more.
        #[test]
        fn t4_no_value_leaves_its_place(
            before in "[ -~{}\r\n]{0,40}",
            spaces in 0_usize..40,
            after in "[ -~{}\r\n]{0,40}",
            text in "[!-~]{1,60}",
        ) {
            let image = format!("{before}{{{{FARRIER_OWN{}}}}}{after}", " ".repeat(spaces));
            let Ok(text) = ValueText::new(text) else { return Ok(()) };
            let places: usize = found(&image).iter().map(|(_, width)| width).sum();
            let narrow = found(&image).iter().any(|(_, width)| *width < text.as_str().len());
            match filled(image.as_bytes(), Some(&text)) {
                Err(_) => prop_assert!(narrow),
                Ok(own) => {
                    prop_assert!(!narrow);
                    prop_assert_eq!(own.len(), image.len());
                    let changed = own.iter().zip(image.as_bytes()).filter(|(a, b)| a != b).count();
                    prop_assert!(changed <= places);
                    let at = before.len()..image.len() - after.len();
                    let kept = std::str::from_utf8(&own[at.clone()]).unwrap();
                    prop_assert_eq!(kept.trim_end_matches(' '), text.as_str());
                }
            }
        }
    }
}
