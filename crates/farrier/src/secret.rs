//! Passwords and answers from a person. A password is never an argument: arguments are for all to see.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::exit::Failure;

/// Asks for a password that is to be remembered, twice, or reads it from standard input.
pub(crate) fn new_password(from_stdin: bool) -> anyhow::Result<String> {
    let password = password(from_stdin, "New password: ")?;
    if !from_stdin && ask_hidden("Once more: ")? != password {
        return Err(Failure::usage("these are two different passwords").into());
    }
    Ok(password)
}

/// Asks for a password, or reads it from standard input.
pub(crate) fn password(from_stdin: bool, prompt: &str) -> anyhow::Result<String> {
    if from_stdin {
        return line();
    }
    if !io::stdin().is_terminal() {
        return Err(
            Failure::usage("there is no terminal to ask for a password on")
                .hint("use --password-stdin")
                .into(),
        );
    }
    ask_hidden(prompt)
}

/// Asks a person and returns the answer.
pub(crate) fn ask(prompt: &str) -> anyhow::Result<String> {
    write!(io::stderr(), "{prompt}")?;
    io::stderr().flush()?;
    line()
}

fn ask_hidden(prompt: &str) -> anyhow::Result<String> {
    let hidden = Hidden::begin()?;
    let answer = ask(prompt);
    drop(hidden);
    // The newline that ended the answer was not shown either.
    let _ = writeln!(io::stderr());
    answer
}

/// One line without its end.
fn line() -> anyhow::Result<String> {
    let mut text = String::new();
    if io::stdin().lock().read_line(&mut text)? == 0 {
        return Err(Failure::usage("the input ended before there was an answer").into());
    }
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Keeps what is typed off the screen while it lives.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Nothing better can be done here; `stty sane` brings the echo back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
