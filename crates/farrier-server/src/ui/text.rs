//! Values as people read them. What strangers say is made harmless to the eye here; the templates make it
//! harmless to the browser.

use std::fmt::Write as _;

/// `text` with everything visible that could pretend to be something else: control characters, marks that
/// turn the reading direction, and other characters without a shape. HTML is escaped by the templates.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (count, c) in text.chars().enumerate() {
        if count == MAX_SHOWN {
            out.push('…');
            break;
        }
        if is_deceptive(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "⟨U+{:04X}⟩", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Unicode TR36 2.4 and TR39: bidirectional controls, zero-width and invisible characters, line separators.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// 1536 → `1.5 KiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let mut whole = count;
    let mut unit = 0;
    while whole >= 1024 * 1024 && unit + 2 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    // `whole` is now below 1024 * 1024 of the unit below the one shown.
    let tenths = whole * 10 / 1024;
    let unit = UNITS[unit + 1];
    if tenths >= 1000 {
        format!("{} {unit}", tenths / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// 3725 → `1 h 02 min`.
#[must_use]
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// A moment for machines (`datetime`) and for people, both UTC; the browser turns the latter local.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    pub iso: String,
    pub text: String,
}

impl Moment {
    #[must_use]
    pub fn of(millis: i64) -> Self {
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(at) => Self {
                iso: at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
                text: at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            },
            Err(_) => Self::default(),
        }
    }
}

/// A machine's texts are short; a megabyte of them is somebody's joke.
const MAX_SHOWN: usize = 400;

#[cfg(test)]
mod tests {
    use super::{Moment, bytes, duration, shown};

    #[test]
    fn t5_what_deceives_the_eye_becomes_visible() {
        assert_eq!(shown("lab-07"), "lab-07");
        assert_eq!(shown("ab\u{202e}cd"), "ab⟨U+202E⟩cd");
        assert_eq!(
            shown("a\nb\u{0}\u{1b}[31m"),
            "a⟨U+000A⟩b⟨U+0000⟩⟨U+001B⟩[31m"
        );
        assert_eq!(shown("\u{feff}x\u{200b}"), "⟨U+FEFF⟩x⟨U+200B⟩");
        assert_eq!(shown("Prüfstand 東"), "Prüfstand 東");
        assert_eq!(shown(&"x".repeat(5000)).chars().count(), 401);
    }

    #[test]
    fn sizes_read_well() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024, "1.0 MiB"),
            (200 << 30, "200 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn times_read_well() {
        assert_eq!(duration(3725), "1 h 02 min");
        assert_eq!(duration(59), "59 s");
        assert_eq!(Moment::of(0).text, "1970-01-01 00:00:00 UTC");
        assert_eq!(Moment::of(1500).iso, "1970-01-01T00:00:01.500Z");
    }
}
