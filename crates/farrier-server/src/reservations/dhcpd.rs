//! `host` declarations of ISC's `dhcpd.conf`, at any depth. Those without `fixed-address` are passed over.
//!
//! A brace or semicolon that is missing moves words from one host into another. Such a file is refused, since what
//! it was meant to say is not known.

use farrier_engine::lease::Holder;

use super::{Entry, Fault, Found, by_client_id, by_mac, entry};

pub(super) fn read(text: &str) -> Found {
    let mut reader = Reader::default();
    let mut statement = Vec::new();
    for word in words(text, &mut reader.faults) {
        match word.text {
            "{" if !word.quoted => reader.opens(word.line, &std::mem::take(&mut statement)),
            ";" if !word.quoted => reader.says(&std::mem::take(&mut statement)),
            "}" if !word.quoted => {
                reader.says(&std::mem::take(&mut statement));
                reader.closes(word.line);
            }
            _ => statement.push(word),
        }
    }
    reader.ends(&statement)
}

#[derive(Clone, Copy)]
struct Word<'a> {
    line: usize,
    text: &'a str,
    quoted: bool,
}

impl Word<'_> {
    /// Keywords are the same in capitals, and nothing in quotes is one.
    fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text.eq_ignore_ascii_case(keyword)
    }
}

/// Words, strings without their quotes, and `{ } ; ,` by themselves; comments left out.
fn words<'a>(text: &'a str, faults: &mut Vec<Fault>) -> Vec<Word<'a>> {
    let mut words = Vec::new();
    for (n, mut rest) in text.lines().enumerate() {
        let line = n + 1;
        loop {
            rest = rest.trim_start();
            let Some(first) = rest.chars().next().filter(|c| *c != '#') else {
                break;
            };
            let (text, after) = match first {
                '"' => string(&rest[1..]).unwrap_or_else(|| {
                    let what = "a string begins here and does not end in this line: write its \"";
                    faults.push(fault(line, what));
                    (&rest[1..], "")
                }),
                '{' | '}' | ';' | ',' => rest.split_at(1),
                _ => {
                    let stop = |c: char| c.is_whitespace() || "{};,\"#".contains(c);
                    rest.split_at(rest.find(stop).unwrap_or(rest.len()))
                }
            };
            let quoted = first == '"';
            words.push(Word { line, text, quoted });
            rest = after;
        }
    }
    words
}

/// What stands before the quotation mark that ends it, and what follows; `\"` ends none.
fn string(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = text.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some((&text[..end], &text[end + 1..]))
}

#[derive(Default)]
struct Reader<'a> {
    /// The line of each block that is open, the outermost first.
    open: Vec<usize>,
    /// The host whose block is open.
    host: Option<Host<'a>>,
    entries: Vec<Entry>,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    /// A block begins, after the words that say of what.
    fn opens(&mut self, line: usize, words: &[Word<'a>]) {
        self.open.push(line);
        match words {
            [host, name] if host.is("host") => self.declares(host.line, name.text),
            [host, ..] if host.is("host") => {
                let what = "a host has one name: write host NAME { ... }";
                self.faults.push(fault(host.line, what));
            }
            [.., host, _] if host.is("host") => {
                let what = "a ; is missing before this host";
                self.faults.push(fault(host.line, what));
            }
            _ => self.faults.extend(misplaced(words)),
        }
    }

    fn declares(&mut self, line: usize, name: &'a str) {
        if let Some(outer) = &self.host {
            let what = format!(
                "host {name} stands inside of host {}: write the }} that is missing before it",
                outer.name
            );
            self.faults.push(fault(line, what));
        }
        self.host = Some(Host {
            line,
            name,
            depth: self.open.len(),
            mac: None,
            id: None,
            address: None,
            refused: false,
        });
    }

    fn says(&mut self, words: &[Word<'a>]) {
        let Some(first) = words.first() else {
            return;
        };
        let own = self
            .host
            .as_mut()
            .filter(|host| host.depth == self.open.len());
        let result = if first.is("include") {
            let file = words.get(1).map_or("", |word| word.text);
            let what = format!(
                "it includes {file:?}, which is not read: import that file by itself, and take this line out of what \
                 is imported here"
            );
            Err(fault(first.line, what))
        } else if first.is("host") {
            let what = "a host has a block: write the { that is missing behind its name";
            Err(fault(first.line, what))
        } else if let Some(host) = own {
            let said = host.says(words);
            host.refused |= said.is_err();
            said
        } else {
            misplaced(words).map_or(Ok(()), Err)
        };
        self.faults.extend(result.err());
    }

    fn closes(&mut self, line: usize) {
        if self.open.pop().is_none() {
            let what =
                "this } ends no block: take it out, or write the { that is missing before it";
            self.faults.push(fault(line, what));
        }
        if let Some(host) = self.host.take_if(|host| host.depth > self.open.len()) {
            match host.entry().transpose() {
                Some(Ok(entry)) => self.entries.push(entry),
                Some(Err(fault)) => self.faults.push(fault),
                None => {}
            }
        }
    }

    fn ends(mut self, rest: &[Word<'a>]) -> Found {
        if let Some(first) = rest.first() {
            let what = "the file ends before this statement does: write what is missing";
            self.faults.push(fault(first.line, what));
        }
        let unclosed = self.open.iter();
        let what = "the block that begins here does not end: write the } that is missing";
        self.faults.extend(unclosed.map(|line| fault(*line, what)));
        (self.entries, self.faults)
    }
}

/// An address that belongs to no host, as it does behind a brace too many or in a block within a host.
fn misplaced(words: &[Word<'_>]) -> Option<Fault> {
    let lost = words.iter().find(|word| word.is("fixed-address"))?;
    let what = "this fixed-address is not directly in the block of a host: move it there";
    Some(fault(lost.line, what))
}

struct Host<'a> {
    line: usize,
    name: &'a str,
    /// How many blocks are open in it, its own included.
    depth: usize,
    mac: Option<Word<'a>>,
    id: Option<Word<'a>>,
    address: Option<Word<'a>>,
    /// A fault of it is told; what it lacks for that reason is none of its own.
    refused: bool,
}

impl<'a> Host<'a> {
    fn says(&mut self, words: &[Word<'a>]) -> Result<(), Fault> {
        let name = self.name;
        let no = |word: &Word<'_>, what| Err(fault(word.line, format!("host {name} {what}")));
        let begins = |at: usize, what: &[&str]| {
            let rest = words.get(at..).unwrap_or_default();
            rest.len() >= what.len() && rest.iter().zip(what).all(|(word, what)| word.is(what))
        };
        let joined =
            |at: &usize| begins(*at, &["fixed-address"]) || begins(*at, &["hardware", "ethernet"]);
        if let Some(at) = (1..words.len()).find(joined) {
            let what = format!("has no ; before {}: write it", words[at].text);
            return no(&words[at], what);
        }
        let first = &words[0];
        let (place, length, what) = if begins(0, &["hardware", "ethernet"]) {
            (&mut self.mac, 3, "hardware address")
        } else if begins(0, &["option", "dhcp-client-identifier"]) {
            (&mut self.id, 3, "client id")
        } else if begins(0, &["fixed-address"]) {
            (&mut self.address, 2, "address")
        } else if begins(0, &["hardware"]) {
            let kind = words.get(1).map_or("", |word| word.text);
            return no(first, format!("has hardware of the kind {kind}"));
        } else {
            return Ok(());
        };
        match words.get(length - 1) {
            Some(_) if words.get(length).is_some_and(|word| word.is(",")) => {
                no(first, format!("has several values as {what}: keep one"))
            }
            Some(value) if words.len() == length => match place.replace(*value) {
                Some(_) => no(first, format!("has a second {what}: keep one")),
                None => Ok(()),
            },
            _ => no(first, format!("has a {what} that is not one value")),
        }
    }

    fn entry(&self) -> Result<Option<Entry>, Fault> {
        let Some(address) = self.address.filter(|_| !self.refused) else {
            return Ok(None);
        };
        let holder = match (self.mac, self.id) {
            (Some(mac), _) => by_mac(mac.text),
            // ISC reads `\001` as one byte, and we would take four.
            (None, Some(id)) if id.quoted && id.text.contains('\\') => {
                let what = format!(
                    "host {} has a \\ in its client id: write bytes such as 01:52:54",
                    self.name
                );
                return Err(fault(id.line, what));
            }
            (None, Some(id)) if id.quoted => Ok(Holder::ClientId(id.text.as_bytes().to_vec())),
            (None, Some(id)) => by_client_id(id.text),
            (None, None) => Err(format!(
                "host {} has no hardware address and no client id: reserve by one",
                self.name
            )),
        };
        entry(self.line, address.text, holder, Some(self.name)).map(Some)
    }
}

fn fault(line: usize, what: impl Into<String>) -> Fault {
    Fault {
        line,
        what: what.into(),
    }
}
