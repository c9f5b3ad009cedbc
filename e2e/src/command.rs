//! Running other programs, with errors that say which one failed and what it printed.

use std::{
    ffi::OsStr,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};

/// How much of a failed program's output goes into the error.
const ERROR_LINES: usize = 15;

/// A command from a program and its arguments.
pub fn command<I, S>(program: &str, arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs to the end and returns what was printed on the standard output.
///
/// # Errors
/// When the program is absent or ends with another code than 0; the error shows the end of its output.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    check(&shown, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Like [`run`], with `input` as the standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Result<String> {
    let shown = shown(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading is judged by its exit code below.
        let _ = stdin.write_all(input);
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("cannot wait for `{shown}`"))?;
    check(&shown, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program of this name is on the search path.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|folder| Path::new(&folder).join(program).is_file())
}

fn check(shown: &str, output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    bail!(
        "`{shown}` ended with {}:\n{}",
        output.status,
        last_lines(&text, ERROR_LINES)
    );
}

/// The last `count` lines of a text.
#[must_use]
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_the_command_and_shows_its_words() {
        let error = run(&mut command("sh", ["-c", "echo out; echo why >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("sh -c") && error.contains("why") && error.contains('3'),
            "{error}"
        );
    }

    #[test]
    fn absent_program_is_named() {
        let error = run(&mut command("no-such-program-here", [""; 0]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no-such-program-here"), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(
            run_with_input(&mut command("cat", [""; 0]), b"abc").unwrap(),
            "abc"
        );
    }
}
