//! What a machine says on its serial line.

/// Console bytes without terminal control sequences.
pub(super) fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' if letters.peek() == Some(&'[') => {
                letters.next();
                // Parameters, then one letter that ends the sequence; SeaBIOS and OVMF also send `ESC [ = 3 h`.
                for next in letters.by_ref() {
                    if next.is_ascii_alphabetic() || next == '~' {
                        break;
                    }
                }
            }
            '\u{1b}' => drop(letters.next()),
            '\r' | '\u{0}' => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn markers_survive_colours_and_cursor_movements() {
        let console = b"\x1b[2J\x1b[01;01H\x1b[=3h>>Start \x1b[1mPXE\x1b[0m over IPv4.\r\nok\x1bc!";
        assert_eq!(plain(console), ">>Start PXE over IPv4.\nok!");
    }
}
