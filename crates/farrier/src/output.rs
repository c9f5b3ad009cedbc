//! What people read. Data goes to stdout as aligned text, talk to stderr; colour is not used.

use std::fmt;
use std::io::{self, Write as _};

use farrier_api::admin::Plan;
use farrier_server::ui::text::{Moment, shown};

/// Writes data. A reader that has seen enough (`| head`) is no fault.
pub(crate) fn data(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    match out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(end.as_bytes()))
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes a line of talk. That nobody listens is no reason to stop.
pub(crate) fn talk(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Rows with aligned columns. What strangers wrote is made visible: it can neither move the cursor nor
/// pretend to be another row.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(heads: [&str; N]) -> Self {
        Self {
            rows: vec![heads.map(str::to_owned).to_vec()],
        }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let cell = |text: String| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                shown(&text)
            }
        };
        self.rows.push(cells.map(cell).to_vec());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0; columns];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                let pad = width + 2 - cell.chars().count();
                line.extend(std::iter::repeat_n(' ', pad));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// One thing with its properties; those without a value are left out.
#[derive(Debug, Default)]
pub(crate) struct Fields(Table);

impl Fields {
    pub(crate) fn field(&mut self, name: &str, value: impl fmt::Display) {
        let value = value.to_string();
        if !value.is_empty() {
            self.0.row([format!("{name}:"), value]);
        }
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A plan as a person should see it before saying yes.
pub(crate) fn plan(plan: &Plan) -> String {
    let mut text = format!("{}\n", shown(&plan.summary));
    for step in &plan.steps {
        text.push_str(&format!("  - {}\n", shown(step)));
    }
    for warning in &plan.warnings {
        text.push_str(&format!("  ! {}\n", shown(warning)));
    }
    for left in &plan.left_out {
        let (name, why) = (shown(&left.machine_name), shown(&left.why));
        text.push_str(&format!("  x {name} is left out: {why}\n"));
    }
    text
}

/// A moment in UTC.
pub(crate) fn time(millis: i64) -> String {
    Moment::of(millis).text
}

#[cfg(test)]
mod tests {
    use farrier_api::admin::{LeftOut, Plan};

    use super::{Fields, Table, plan};

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(["NAME", "STATE"]);
        table.row(["lab-07".to_owned(), "seen".to_owned()]);
        table.row([String::new(), "approved".to_owned()]);
        assert_eq!(
            table.to_string(),
            "NAME    STATE\nlab-07  seen\n-       approved\n"
        );
    }

    #[test]
    fn t5_hostile_text_stays_in_its_cell() {
        let mut table = Table::new(["NAME", "STATE"]);
        table.row([
            "a\nevil  approved\u{1b}[2K".to_owned(),
            "\u{202e}nees".to_owned(),
        ]);
        let text = table.to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.contains("a⟨U+000A⟩evil")
                && text.contains("⟨U+001B⟩[2K")
                && text.contains("⟨U+202E⟩nees")
        );
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }

    #[test]
    fn t5_hostile_text_in_plans_and_fields_is_visible() {
        let shown = plan(&Plan {
            summary: "Deploy.".to_owned(),
            steps: vec!["\r- nothing".to_owned()],
            warnings: vec!["x\u{2066}y".to_owned()],
            left_out: vec![LeftOut {
                machine: uuid::Uuid::nil(),
                machine_name: "a\u{8}b".to_owned(),
                why: "it has none".to_owned(),
                task: None,
            }],
            destructive: true,
            confirm: String::new(),
        });
        assert_eq!(
            shown,
            "Deploy.\n  - ⟨U+000D⟩- nothing\n  ! x⟨U+2066⟩y\n  x a⟨U+0008⟩b is left out: it has none\n"
        );
        let mut fields = Fields::default();
        fields.field("model", "ACME\u{7}");
        fields.field("serial", "");
        assert_eq!(fields.to_string(), "model:  ACME⟨U+0007⟩\n");
    }
}
