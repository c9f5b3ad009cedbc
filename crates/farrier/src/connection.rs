//! Which server to ask, how to know it, and who asks.

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use farrier_api::admin::{Confirm, ConfirmQuery, MachineChange, MachineDetail, Millis, Plan};
use farrier_api::client::{AdminAddress, AdminClient, AdminClientError, Answer, CaPin, CaPinError};
use farrier_server::config::DEFAULT_DATA_DIR;
use farrier_server::core::now;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::credentials::{self, Credentials};
use crate::exit::Failure;
use crate::output;

/// Options of every command that asks the server.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Options {
    /// The server [default: signed in to last, or https://127.0.0.1:8443]
    #[arg(long, global = true, env = "FARRIER_SERVER", value_name = "URL")]
    pub(crate) server: Option<AdminAddress>,
    /// Fingerprint of its certificate authority [default: pinned by `farrier login`]
    #[arg(long, global = true, env = "FARRIER_CA", value_name = "SHA256", value_parser = fingerprint)]
    pub(crate) ca: Option<CaPin>,
    /// Its data folder, on its own host [default: /var/lib/farrier]
    #[arg(long, global = true, env = "FARRIER_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print what the server answers, as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// A server that is known, and who asks it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: AdminClient,
    pub(crate) json: bool,
    options: Options,
}

/// One way to know a server and to be known by it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) pin: CaPin,
    token: String,
}

impl Options {
    pub(crate) fn data(&self) -> PathBuf {
        self.data
            .clone()
            .unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR))
    }

    /// A connection with a credential.
    pub(crate) fn session(&self) -> anyhow::Result<Session> {
        // Without a home there are no credentials; a token from the environment still works.
        let stored = match credentials::path() {
            Ok(path) => Credentials::load(&path)?,
            Err(_) => Credentials::default(),
        };
        let server = self.address(&stored)?;
        let token = std::env::var("FARRIER_TOKEN")
            .ok()
            .filter(|token| !token.trim().is_empty());
        let way = self.choose(&server, token, &stored, local(&self.data()), now().0)?;
        let client = AdminClient::new(server, way.pin, Some(way.token))?;
        Ok(Session {
            client,
            json: self.json,
            options: self.clone(),
        })
    }

    /// The server that is meant.
    pub(crate) fn address(&self, stored: &Credentials) -> anyhow::Result<AdminAddress> {
        if let Some(server) = &self.server {
            return Ok(server.clone());
        }
        let last = stored
            .last()
            .filter(|_| self.data.is_none())
            .map(|entry| entry.server.as_str());
        last.unwrap_or(DEFAULT_SERVER)
            .parse()
            .map_err(|error| Failure::usage(format!("{error}")).into())
    }

    /// A token from the environment goes to whatever authority is pinned; every other token goes only to
    /// the authority that it came with.
    fn choose(
        &self,
        server: &AdminAddress,
        token: Option<String>,
        stored: &Credentials,
        local: Option<Way>,
        now: Millis,
    ) -> Result<Way, Failure> {
        let entry = stored.of(&server.to_string());
        let known = entry.and_then(|entry| {
            Some(Way {
                pin: entry.ca.parse().ok()?,
                token: entry.token.clone(),
            })
        });
        let signed_in = known
            .clone()
            .filter(|_| entry.is_some_and(|entry| entry.expires > now));
        // A folder that was named is meant; the default one is the last resort.
        let ways = if self.data.is_some() {
            [local, signed_in]
        } else {
            [signed_in, local]
        };
        let mut ways = ways
            .into_iter()
            .flatten()
            .filter(|way| self.ca.is_none_or(|ca| ca == way.pin));
        if let Some(token) = token {
            let pin = self
                .ca
                .or_else(|| ways.next().map(|way| way.pin))
                .or_else(|| known.map(|way| way.pin));
            let pin = pin.ok_or_else(|| unknown_server(server))?;
            return Ok(Way {
                pin,
                token: token.trim().to_owned(),
            });
        }
        ways.next().ok_or_else(|| match entry {
            Some(entry) if entry.expires > now => {
                Failure::refused("--ca is not the authority that you signed in with")
                    .hint("if the server was set up anew, sign in again: farrier login")
            }
            Some(_) => Failure::refused(format!("your session at {server} has ended"))
                .hint("sign in again: farrier login"),
            None => unknown_server(server),
        })
    }
}

/// A fingerprint as we or openssl write it.
fn fingerprint(text: &str) -> Result<CaPin, CaPinError> {
    text.replace(':', "").parse()
}

fn unknown_server(server: &AdminAddress) -> Failure {
    Failure::refused(format!("you are not signed in at {server}")).hint(
        "sign in: farrier login. On the server's own host, run as the owner of its data folder (sudo), named with --data",
    )
}

/// What the owner of a server's data folder finds there.
pub(crate) fn local(data: &Path) -> Option<Way> {
    let pin = local_pin(data)?;
    let token = fs::read_to_string(data.join("admin.token")).ok()?;
    Some(Way {
        pin,
        token: token.trim().to_owned(),
    })
    .filter(|way| !way.token.is_empty())
}

/// The authority of the server whose data folder this is.
pub(crate) fn local_pin(data: &Path) -> Option<CaPin> {
    CaPin::of_pem(&fs::read(data.join("ca/root.pem")).ok()?)
}

impl Session {
    /// The same with a credential read anew: the token in the data folder changes when the server starts.
    pub(crate) fn renewed(&self) -> anyhow::Result<Self> {
        self.options.session()
    }

    /// Prints an answer: as it came with `--json`, else as `render` makes it readable.
    pub(crate) fn show<T: DeserializeOwned>(
        &self,
        answer: &Answer<T>,
        render: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        if self.json {
            return output::data(&String::from_utf8_lossy(&answer.body));
        }
        output::data(&render(&answer.read()?))
    }

    /// Says that something was done, unless a program listens, which sees it from the exit code.
    pub(crate) fn done(&self, text: &str) -> anyhow::Result<()> {
        if self.json {
            Ok(())
        } else {
            output::data(text)
        }
    }

    /// The machine that is called so: an id, a name or a hardware address.
    pub(crate) async fn machine(&self, named: &str) -> anyhow::Result<MachineDetail> {
        Ok(self.client.get(&["machines", named]).await?.read()?)
    }

    /// Puts settings, groups or rules. Those that start deployments are answered with a plan, which is shown; the
    /// command ends there unless it was confirmed.
    pub(crate) async fn put_policy<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
        yes: bool,
    ) -> anyhow::Result<Answer<T>> {
        let first = self.client.put(path, body).await;
        let Some(confirm) = self.asked(&first, yes)? else {
            return Ok(first?);
        };
        Ok(self.client.put_with(path, &confirm, body).await?)
    }

    /// The same for a change of one machine.
    pub(crate) async fn patch_machine(
        &self,
        id: &str,
        change: &MachineChange,
        yes: bool,
    ) -> anyhow::Result<Answer<MachineDetail>> {
        let path = ["machines", id];
        let first = self.client.patch(&path, change).await;
        let Some(confirm) = self.asked(&first, yes)? else {
            return Ok(first?);
        };
        Ok(self.client.patch_with(&path, &confirm, change).await?)
    }

    /// The confirmation that an answer asks for, if it does.
    fn asked<T>(
        &self,
        answer: &Result<Answer<T>, AdminClientError>,
        yes: bool,
    ) -> anyhow::Result<Option<ConfirmQuery>> {
        let Err(AdminClientError::Refused { body, .. }) = answer else {
            return Ok(None);
        };
        let Some(plan) = &body.plan else {
            return Ok(None);
        };
        let Confirm { confirm } = self.agree(&Answer::of(&**plan)?, yes)?;
        Ok(Some(ConfirmQuery {
            confirm: Some(confirm),
        }))
    }

    /// Shows the plan for what stands at `path` and ends here unless it was confirmed.
    pub(crate) async fn confirmed(&self, path: &[&str], yes: bool) -> anyhow::Result<Confirm> {
        let answer: Answer<Plan> = self.client.get(path).await?;
        self.agree(&answer, yes)
    }

    /// The same with a plan at hand.
    pub(crate) fn agree(&self, answer: &Answer<Plan>, yes: bool) -> anyhow::Result<Confirm> {
        let plan = answer.read()?;
        if !yes {
            self.show(answer, output::plan)?;
            return Err(not_confirmed());
        }
        if !self.json {
            output::talk(output::plan(&plan).trim_end());
        }
        Ok(Confirm {
            confirm: plan.confirm,
        })
    }
}

/// The end of a destructive command without `--yes`.
pub(crate) fn not_confirmed() -> anyhow::Error {
    Failure::refused("nothing was done")
        .hint("if that is what you want, repeat the command with --yes")
        .into()
}

/// Whether a person sits in front of it.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

const DEFAULT_SERVER: &str = "https://127.0.0.1:8443";

#[cfg(test)]
mod tests;
