//! `host` declarations of ISC's `dhcpd.conf`, at any depth. Those without `fixed-address` are passed over.

use super::{Entry, Fault, Found, by_client_id, by_mac, entry, sort};

pub(super) fn read(text: &str) -> Found {
    let words = words(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let opens = words.get(at + 2).is_some_and(|word| word.text == "{");
        if words[at].text == "host" && opens {
            let end = block_end(&words, at + 2);
            found.extend(host(&words[at], &words[at + 1], &words[at + 3..end]).transpose());
            at = end;
        }
        at += 1;
    }
    sort(found.into_iter())
}

struct Word<'a> {
    line: usize,
    text: &'a str,
}

/// Words, strings without their quotes, and `{ } ; ,` by themselves; comments left out.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    for (n, mut rest) in text.lines().enumerate() {
        let line = n + 1;
        loop {
            rest = rest.trim_start();
            let Some(first) = rest.chars().next().filter(|c| *c != '#') else {
                break;
            };
            let (text, after) = match first {
                '"' => rest[1..]
                    .split_once('"')
                    .unwrap_or_else(|| (&rest[1..], "")),
                '{' | '}' | ';' | ',' => rest.split_at(1),
                _ => {
                    let stop = |c: char| c.is_whitespace() || "{};,\"#".contains(c);
                    rest.split_at(rest.find(stop).unwrap_or(rest.len()))
                }
            };
            words.push(Word { line, text });
            rest = after;
        }
    }
    words
}

/// Where the block that begins at `open` is closed, or the end of the file.
fn block_end(words: &[Word<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate().skip(open) {
        match word.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    words.len()
}

fn host(keyword: &Word<'_>, name: &Word<'_>, body: &[Word<'_>]) -> Result<Option<Entry>, Fault> {
    let (mut mac, mut id, mut address) = (None, None, None);
    for statement in body.split(|word| word.text == ";") {
        let texts: Vec<&str> = statement.iter().map(|word| word.text).collect();
        match texts.as_slice() {
            ["hardware", "ethernet", value] => mac = Some(*value),
            ["hardware", kind, ..] => {
                let what = format!("host {} has hardware of the kind {kind}", name.text);
                let line = keyword.line;
                return Err(Fault { line, what });
            }
            ["option", "dhcp-client-identifier", value] => id = Some(*value),
            ["fixed-address", one] => address = Some(*one),
            ["fixed-address", ..] => {
                let what = format!("host {} has several addresses: keep one", name.text);
                let line = statement.first().map_or(keyword.line, |word| word.line);
                return Err(Fault { line, what });
            }
            _ => {}
        }
    }
    let Some(address) = address else {
        return Ok(None);
    };
    let holder = match (mac, id) {
        (Some(mac), _) => by_mac(mac),
        (None, Some(id)) => by_client_id(id),
        (None, None) => Err(format!(
            "host {} has no hardware address and no client id: reserve by one",
            name.text
        )),
    };
    entry(keyword.line, address, holder, Some(name.text)).map(Some)
}
