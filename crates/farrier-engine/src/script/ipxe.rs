//! Writing iPXE's script language. A line is split at white space into words; there are no quotes.
//! The words `||`, `&&` and `;` end a command, a word that begins with `#` ends the line, a backslash
//! at the end continues it, and `${...}` inside a word is replaced by a setting after the split.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::value::{Argument, Text, Url};
use crate::policy::MenuEntry;

/// A script under construction.
#[derive(Debug)]
pub(super) struct Ipxe(String);

/// A piece of a line. Only pieces written in this crate may hold syntax.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    Fixed(&'static str),
    Text(&'a Text),
    Url(&'a Url),
    Address(Ipv4Addr),
    /// The URL, and a query that says what was chosen and what iPXE knows of the machine.
    Ask {
        script: &'a Url,
        choice: Option<MenuEntry>,
    },
    /// The same with the setting `code`, whatever somebody typed.
    AskWithCode {
        script: &'a Url,
        choice: MenuEntry,
    },
    Argument(&'a Argument),
    /// Its name, as a label and where one goes to.
    Entry(MenuEntry),
    /// `c=` and a number, as one word.
    Named(&'static str, u64),
    Key(char),
    Millis(Duration),
}

impl Ipxe {
    pub(super) fn new() -> Self {
        Self("#!ipxe\n".to_owned())
    }

    /// Writes one line. It begins with a fixed piece, so that no value stands where the command does.
    pub(super) fn line<'a>(&mut self, parts: impl IntoIterator<Item = Part<'a>>) {
        for (i, part) in parts.into_iter().enumerate() {
            debug_assert!(i > 0 || matches!(part, Part::Fixed(_)));
            if i > 0 {
                self.0.push(' ');
            }
            match part {
                Part::Fixed(text) => self.0.push_str(text),
                Part::Text(text) => self.0.push_str(text.as_str()),
                Part::Url(url) => self.0.push_str(url.as_str()),
                Part::Address(address) => self.0.push_str(&address.to_string()),
                Part::Ask { script, choice } => self.ask(script, choice, ""),
                Part::AskWithCode { script, choice } => {
                    self.ask(script, Some(choice), "code=${code:uristring}&");
                }
                Part::Argument(argument) => self.0.push_str(argument.as_str()),
                Part::Entry(entry) => self.0.push_str(&entry.to_string()),
                Part::Named(name, number) => {
                    self.0.push_str(name);
                    self.0.push_str(&number.to_string());
                }
                Part::Key(key) => self.0.push(key),
                Part::Millis(time) => self.0.push_str(&time.as_millis().to_string()),
            }
        }
        self.0.push('\n');
    }

    fn ask(&mut self, script: &Url, choice: Option<MenuEntry>, code: &'static str) {
        self.0.push_str(script.as_str());
        self.0.push(if script.as_str().contains('?') {
            '&'
        } else {
            '?'
        });
        if let Some(choice) = choice {
            self.0.push_str("choice=");
            self.0.push_str(&choice.to_string());
            self.0.push('&');
        }
        self.0.push_str(code);
        self.0.push_str(FACTS_QUERY);
    }

    pub(super) fn label(&mut self, name: &'static str) {
        self.0.push(':');
        self.0.push_str(name);
        self.0.push('\n');
    }

    pub(super) fn entry_label(&mut self, entry: MenuEntry) {
        self.0.push(':');
        self.0.push_str(&entry.to_string());
        self.0.push('\n');
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// What the machine says of itself. iPXE fills it in after the line was split into words and commands,
/// so a value is always a part of this one word; `uristring` makes it percent-encode what the maker of
/// the machine wrote. It leaves `&` and `+` alone, so texts come last: the first of a name counts, and
/// a text cannot stand in for a fact.
const FACTS_QUERY: &str = "mac=${netX/mac:hexhyp}&uuid=${uuid}&platform=${platform}&buildarch=${buildarch}\
    &version=${version:uristring}&serial=${serial:uristring}\
    &manufacturer=${manufacturer:uristring}&product=${product:uristring}";
