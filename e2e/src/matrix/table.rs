//! The table of what was seen, on the screen and in the documents.

use std::{fmt, fs, path::Path};

use anyhow::{Context, Result, bail};

use super::Outcome;

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
        writeln!(
            f,
            "| row | firmware | card | way | server | seen | seconds | CPU seconds |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for outcome in &self.outcomes {
            let row = &outcome.row;
            let (seen, seconds, cpu) = match &outcome.seen {
                Ok(seen) => (
                    row.seen,
                    format!("{:.1}", seen.seconds),
                    format!("{:.1}", seen.cpu),
                ),
                Err(_) => ("FAILED", "-".to_owned(), "-".to_owned()),
            };
            let card = row.card.unwrap_or("virtio");
            writeln!(
                f,
                "| {} | {} | {card} | {} | {} | {seen} | {seconds} | {cpu} |",
                row.name,
                outcome.versions,
                row.way,
                row.role.title()
            )?;
        }
        Ok(())
    }
}

const BEGIN: &str = "<!-- firmware matrix, written by `cargo xtask e2e firmware --write` -->";
const END: &str = "<!-- end of the firmware matrix -->";

/// Puts the table in its place in a document.
///
/// # Errors
/// When the document has no place for it.
pub fn write_into(document: &Path, table: &Table) -> Result<()> {
    let text = fs::read_to_string(document)
        .with_context(|| format!("cannot read {}", document.display()))?;
    let new = replaced(&text, &table.to_string())
        .with_context(|| format!("{} has no place for the table", document.display()))?;
    fs::write(document, new).with_context(|| format!("cannot write {}", document.display()))
}

fn replaced(text: &str, table: &str) -> Result<String> {
    let Some((before, rest)) = text.split_once(BEGIN) else {
        bail!("there is no line `{BEGIN}`");
    };
    let Some((_, after)) = rest.split_once(END) else {
        bail!("there is no line `{END}`");
    };
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_the_last_one() {
        let text = format!("# A\n\n{BEGIN}\n\n| old |\n\n{END}\n\nB\n");
        let new = replaced(&text, "| new |\n").unwrap();
        assert_eq!(new, format!("# A\n\n{BEGIN}\n\n| new |\n\n{END}\n\nB\n"));
        assert_eq!(replaced(&new, "| new |\n").unwrap(), new);
        assert!(replaced("# A\n", "").is_err());
    }
}
