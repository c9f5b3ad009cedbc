//! How iPXE reads a script, written anew from its documented behaviour, to test what we write by
//! somebody else's rules.

/// One command with its words before settings are filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub label: Option<String>,
    pub words: Vec<String>,
    /// `||`, `&&`, `;` or nothing: what stands before it on the line.
    pub joined_by: Option<String>,
}

impl Command {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

/// Reads a script; none if iPXE would not take it for one.
pub(super) fn parse(script: &str) -> Option<Vec<Command>> {
    let after_magic = script.strip_prefix("#!ipxe")?;
    if !after_magic.starts_with(is_space) {
        return None;
    }
    let mut commands = Vec::new();
    let mut line = String::new();
    for piece in script.split('\n') {
        line.push_str(piece);
        if line.ends_with('\r') {
            line.pop();
        }
        if line.ends_with('\\') {
            line.pop();
            continue;
        }
        let whole = std::mem::take(&mut line);
        // A C string ends at the first NUL.
        parse_line(whole.split('\0').next().unwrap_or(""), &mut commands);
    }
    Some(commands)
}

fn parse_line(line: &str, commands: &mut Vec<Command>) {
    let line = line.trim_start_matches(is_space);
    let (mut label, text) = match line.strip_prefix(':') {
        Some(rest) => {
            let end = rest.find(is_space).unwrap_or(rest.len());
            (Some(rest[..end].to_owned()), &rest[end..])
        }
        None => (None, line),
    };
    let mut words = Vec::new();
    let mut joined_by = None;
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        if word.starts_with('#') {
            break;
        }
        if ["||", "&&", ";"].contains(&word) {
            let done = Command {
                label: label.take(),
                words: std::mem::take(&mut words),
                joined_by: joined_by.take(),
            };
            commands.push(done);
            joined_by = Some(word.to_owned());
        } else {
            words.push(word.to_owned());
        }
    }
    if label.is_some() || !words.is_empty() {
        commands.push(Command {
            label,
            words,
            joined_by,
        });
    }
}

/// The settings that the words ask for.
pub(super) fn settings(commands: &[Command]) -> Vec<String> {
    let words = commands.iter().flat_map(|command| &command.words);
    words.filter(|word| word.contains("${")).cloned().collect()
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

#[test]
fn reads_as_ipxe_does() {
    let script = "#!ipxe\n# remark\n :here echo a && echo b#c # d\necho a \\\n b || exit\n\necho ${x y} ;exit ; boot";
    let commands = parse(script).unwrap();
    let told: Vec<_> = commands
        .iter()
        .map(|c| {
            (
                c.label.as_deref(),
                c.words.join(" "),
                c.joined_by.as_deref(),
            )
        })
        .collect();
    let own = |text: &str| text.to_owned();
    assert_eq!(
        told,
        [
            (Some("here"), own("echo a"), None),
            (None, own("echo b#c"), Some("&&")),
            (None, own("echo a b"), None),
            (None, own("exit"), Some("||")),
            (None, own("echo ${x y} ;exit"), None),
            (None, own("boot"), Some(";")),
        ]
    );
    assert_eq!(parse("#!ipxeno\necho a"), None);
}
