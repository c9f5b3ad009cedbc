//! The table of what was seen, on the screen and in the documents.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::{Context, Result, bail};

use super::{Outcome, ROWS};

/// What came of each row that ran.
#[derive(Debug, Default)]
pub struct Table {
    outcomes: Vec<Outcome>,
}

impl Table {
    /// Adds a row.
    pub fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// The rows that did not show what they should, with what happened.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &anyhow::Error)> {
        self.outcomes
            .iter()
            .filter_map(|outcome| Some((outcome.row.name, outcome.seen.as_ref().err()?)))
    }

    /// How many ran.
    #[must_use]
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether none ran.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }
}

/// As the documents have it.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for outcome in &self.outcomes {
            writeln!(f, "{}", line(outcome))?;
        }
        Ok(())
    }
}

fn line(outcome: &Outcome) -> String {
    let row = &outcome.row;
    let (seen, seconds, cpu) = match &outcome.seen {
        Ok(seen) => (
            row.seen,
            format!("{:.1}", seen.seconds),
            format!("{:.1}", seen.cpu),
        ),
        Err(_) => ("FAILED", "-".to_owned(), "-".to_owned()),
    };
    format!(
        "| {} | {} | {} | {} | {} | {seen} | {seconds} | {cpu} |",
        row.name,
        outcome.versions,
        row.card.unwrap_or("virtio"),
        row.way,
        row.role.title()
    )
}

const HEAD: &str = "\
| row | firmware | card | way | server | seen | seconds | CPU seconds |
|---|---|---|---|---|---|---|---|
";
const BEGIN: &str = "<!-- firmware matrix, written by `cargo xtask e2e firmware --write` -->";
const END: &str = "<!-- end of the firmware matrix -->";

/// Puts the rows that ran in their places in a document. Others stay as they were seen last; what is no row any
/// more goes.
///
/// # Errors
/// When the document has no place for the table.
pub fn write_into(document: &Path, table: &Table) -> Result<()> {
    let text = fs::read_to_string(document)
        .with_context(|| format!("cannot read {}", document.display()))?;
    let lines: BTreeMap<&str, String> = table
        .outcomes
        .iter()
        .map(|outcome| (outcome.row.name, line(outcome)))
        .collect();
    let new = replaced(&text, &lines)
        .with_context(|| format!("{} has no place for the table", document.display()))?;
    fs::write(document, new).with_context(|| format!("cannot write {}", document.display()))
}

fn replaced(text: &str, lines: &BTreeMap<&str, String>) -> Result<String> {
    let Some((before, rest)) = text.split_once(BEGIN) else {
        bail!("there is no line `{BEGIN}`");
    };
    let Some((old, after)) = rest.split_once(END) else {
        bail!("there is no line `{END}`");
    };
    let seen_last = |name: &str| {
        let start = format!("| {name} |");
        old.lines().find(|line| line.starts_with(&start))
    };
    let mut new = format!("{before}{BEGIN}\n\n{HEAD}");
    for row in ROWS {
        let line = lines.get(row.name).map(String::as_str);
        if let Some(line) = line.or_else(|| seen_last(row.name)) {
            new.push_str(line);
            new.push('\n');
        }
    }
    Ok(format!("{new}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_ran_take_the_places_of_what_was_seen_last() {
        let text = format!(
            "# A\n\n{BEGIN}\n\n| s390 | old |\n| bios-virtio | old |\n| gone | old |\n\n{END}\n\nB\n"
        );
        let lines = BTreeMap::from([("s390", "| s390 | new |".to_owned())]);
        let new = replaced(&text, &lines).unwrap();
        assert_eq!(
            new,
            format!(
                "# A\n\n{BEGIN}\n\n{HEAD}| bios-virtio | old |\n| s390 | new |\n\n{END}\n\nB\n"
            )
        );
        assert_eq!(replaced(&new, &lines).unwrap(), new);
        assert!(replaced("# A\n", &lines).is_err());
    }
}
