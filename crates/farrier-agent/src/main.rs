//! The agent's program: nothing but process 1.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        farrier_agent::machine::run();
    }
    // Outside of an initramfs there is nothing it could do but harm.
    #[expect(clippy::print_stderr, reason = "a person started it by hand")]
    {
        eprintln!(
            "farrier-agent is the first process of a machine booted by Farrier; it does not run elsewhere"
        );
    }
    ExitCode::from(2)
}
