//! How the command ends: 0 done, 1 refused or a negative answer, 2 usage or configuration, 3 the server
//! cannot be reached, 4 a task failed.

use std::fmt;
use std::process::ExitCode;

use farrier_api::client::AdminClientError;
use farrier_server::config::Faults;
use farrier_server::ui::text::shown;

use crate::output;

/// An end of the command that knows its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Refused, or the answer is no.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self {
            code: REFUSED,
            message: message.into(),
            hint: None,
        }
    }

    /// The command line or the configuration cannot be used.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            ..Self::refused(message)
        }
    }

    /// The server, or the right one, cannot be reached.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self {
            code: UNREACHABLE,
            ..Self::refused(message)
        }
    }

    pub(crate) fn task_failed(message: impl Into<String>) -> Self {
        Self {
            code: TASK_FAILED,
            ..Self::refused(message)
        }
    }

    /// What to do next.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Says what went wrong, once, and turns it into an exit code.
pub(crate) fn code(done: anyhow::Result<()>) -> ExitCode {
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    let failure = judge(&error);
    output::talk(&format!("error: {}", failure.message));
    if let Some(hint) = &failure.hint {
        output::talk(&format!("hint: {hint}"));
    }
    ExitCode::from(failure.code)
}

/// What `error` means for whoever started the command.
fn judge(error: &anyhow::Error) -> Failure {
    if let Some(Failure {
        code,
        message,
        hint,
    }) = error.downcast_ref()
    {
        return Failure {
            code: *code,
            message: message.clone(),
            hint: hint.clone(),
        };
    }
    if let Some(error) = error.downcast_ref() {
        return by_client(error);
    }
    if error.downcast_ref::<Faults>().is_some() {
        return Failure::usage(format!("{error:#}"));
    }
    Failure::refused(format!("{error:#}"))
}

fn by_client(error: &AdminClientError) -> Failure {
    let message = shown(&error.to_string());
    match error {
        AdminClientError::Refused { body, .. } => Failure {
            hint: body.hint.as_deref().map(shown),
            ..Failure::refused(message)
        },
        AdminClientError::Unreachable { .. } => Failure::unreachable(message).hint(
            "is it running? `systemctl status farrier` on its host tells; --server names another",
        ),
        AdminClientError::Untrusted { .. } => Failure::unreachable(message)
            .hint("if it was set up anew, compare its fingerprint and pin it: farrier login"),
        AdminClientError::Nonsense { .. } => Failure::refused(message)
            .hint("does the server have the same version as this command? (farrier --version)"),
        AdminClientError::Prepare { .. } => Failure::refused(message),
    }
}

const REFUSED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;
const TASK_FAILED: u8 = 4;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use farrier_api::client::AdminClientError;
    use farrier_api::error::ErrorBody;
    use farrier_server::config::Faults;

    use super::{Failure, judge};

    fn refusal(message: &str) -> AdminClientError {
        let body = ErrorBody {
            code: "not_found".to_owned(),
            message: message.to_owned(),
            hint: Some("list what there is".to_owned()),
            retry: false,
            request: String::new(),
            plan: None,
        };
        AdminClientError::Refused { status: 404, body }
    }

    #[test]
    fn every_end_has_its_exit_code() {
        let server = "https://127.0.0.1:8443"
            .parse::<farrier_api::client::AdminAddress>()
            .unwrap();
        let cause = String::new();
        let away = AdminClientError::Unreachable {
            server: server.clone(),
            cause: cause.clone(),
        };
        let faults = Faults {
            file: PathBuf::from("farrier.toml"),
            faults: Vec::new(),
        };
        for (name, error, expected) in [
            ("refused", refusal("no").into(), 1),
            ("away", away.into(), 3),
            (
                "another",
                AdminClientError::Untrusted {
                    server,
                    cause: cause.clone(),
                }
                .into(),
                3,
            ),
            ("nonsense", AdminClientError::Nonsense { cause }.into(), 1),
            ("configuration", faults.into(), 2),
            ("usage", Failure::usage("what?").into(), 2),
            ("task", Failure::task_failed("it failed").into(), 4),
            ("anything", anyhow::anyhow!("no"), 1),
        ] {
            assert_eq!(judge(&error).code, expected, "{name}");
        }
    }

    #[test]
    fn t5_what_the_server_passes_on_cannot_move_the_cursor() {
        let failure = judge(&refusal("there is no machine \u{1b}[2J\u{202e}x").into());
        assert_eq!(failure.message, "there is no machine ⟨U+001B⟩[2J⟨U+202E⟩x");
        assert_eq!(failure.hint.as_deref(), Some("list what there is"));
    }

    #[test]
    fn causes_are_said_with_what_they_caused() {
        let error = anyhow::anyhow!("no space").context("the loaders cannot be stored");
        assert_eq!(
            judge(&error).message,
            "the loaders cannot be stored: no space"
        );
    }
}
