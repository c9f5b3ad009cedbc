//! `farrier doctor`: what is wrong and what to do.

use std::time::{Duration, Instant};

use clap::Args;
use farrier_api::admin::{Check, Doctor, Verdict};
use farrier_api::client::Answer;
use farrier_server::ui::text::shown;

use crate::connection::Session;
use crate::exit::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print what a DHCP server beside this one needs to name our boot files: dnsmasq, kea, isc or windows.
    #[arg(long, value_name = "SERVER", value_parser = ["dnsmasq", "kea", "isc", "windows"])]
    lines: Option<String>,
    /// Check again until no fault is left, for so many seconds: after a change to another server.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "300")]
    wait: Option<u64>,
}

pub(crate) async fn run(session: &Session, options: &Options) -> anyhow::Result<()> {
    if let Some(server) = &options.lines {
        let text = session
            .client
            .download(&["doctor", "lines", server])
            .await?;
        return output::data(&String::from_utf8_lossy(&text));
    }
    let until = Instant::now() + Duration::from_secs(options.wait.unwrap_or(0));
    while Instant::now() < until && faults(session).await? > 0 {
        output::talk("there are faults; looking again");
        tokio::time::sleep(AGAIN).await;
    }
    check(session).await
}

async fn faults(session: &Session) -> anyhow::Result<usize> {
    let answer: Answer<Doctor> = session.client.get(&["doctor"]).await?;
    let checks = answer.read()?.checks;
    Ok(checks
        .iter()
        .filter(|check| check.verdict == Verdict::Bad)
        .count())
}

/// The probe of the networks itself takes some seconds.
const AGAIN: Duration = Duration::from_secs(3);

async fn check(session: &Session) -> anyhow::Result<()> {
    let answer: Answer<Doctor> = session.client.get(&["doctor"]).await?;
    let mut doctor = answer.read()?;
    doctor
        .checks
        .extend(farrier_server::outside::check(&doctor.served).await);
    let answer = Answer::of(&doctor)?;
    session.show(&answer, |doctor| doctor.checks.iter().map(said).collect())?;
    match doctor
        .checks
        .iter()
        .filter(|check| check.verdict == Verdict::Bad)
        .count()
    {
        0 => Ok(()),
        1 => Err(Failure::refused("one check found a fault").into()),
        faults => Err(Failure::refused(format!("{faults} checks found faults")).into()),
    }
}

fn said(check: &Check) -> String {
    let verdict = match check.verdict {
        Verdict::Good => "good   ",
        Verdict::Warning => "warning",
        Verdict::Bad => "BAD    ",
    };
    let mut text = format!(
        "{verdict}  {}: {}\n",
        shown(&check.name),
        shown(&check.found)
    );
    if let Some(remedy) = &check.remedy {
        text.push_str(&format!("         -> {}\n", shown(remedy)));
    }
    text
}

#[cfg(test)]
mod tests {
    use farrier_api::admin::{Check, Verdict};

    use super::said;

    #[test]
    fn a_fault_is_said_with_its_remedy_and_cannot_forge_another_check() {
        let check = Check {
            name: "network eth1".to_owned(),
            verdict: Verdict::Bad,
            found: "192.0.2.9 names \"x\ngood     all\"".to_owned(),
            remedy: Some("switch it off".to_owned()),
        };
        let text = said(&check);
        assert_eq!(
            text,
            "BAD      network eth1: 192.0.2.9 names \"x⟨U+000A⟩good     all\"\n         -> switch it off\n"
        );
    }
}
