//! `farrier login` and `farrier logout`.

use clap::Args;
use farrier_api::admin::{SetUp, SignIn, SignedIn};
use farrier_api::client::{AdminAddress, AdminClient, Answer, CaPin, authority_of};
use farrier_server::ui::text::shown;

use crate::connection::{Options, is_interactive, local_pin};
use crate::credentials::{self, Credentials, Entry};
use crate::exit::Failure;
use crate::output::{self, time};
use crate::secret;
use crate::user::Password;

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Who you are; asked for when left out.
    #[arg(long)]
    name: Option<String>,
    /// Make the first administrator with the token that the server printed at its first start.
    #[arg(long, value_name = "TOKEN")]
    setup: Option<String>,
    #[command(flatten)]
    password: Password,
}

/// Signs in and remembers the session and the server's authority.
pub(crate) async fn login(options: &Options, login: Login) -> anyhow::Result<()> {
    let path = credentials::path()?;
    let mut stored = Credentials::load(&path)?;
    let server = options.address(&stored)?;
    let pin = pin(options, &server, &stored).await?;
    let client = AdminClient::new(server.clone(), pin, None)?;
    let name = match login.name {
        Some(name) => name,
        None => secret::ask("Name: ")?,
    };
    let answer: Answer<SignedIn> = match login.setup {
        Some(token) => {
            let password = secret::new_password(login.password.password_stdin)?;
            client
                .post(
                    &["setup"],
                    &SetUp {
                        token,
                        name,
                        password,
                    },
                )
                .await?
        }
        None => {
            let password = secret::password(login.password.password_stdin, "Password: ")?;
            client
                .post(&["sessions"], &SignIn { name, password })
                .await?
        }
    };
    let SignedIn {
        token,
        expires,
        name,
        role,
    } = answer.read()?;
    let said = format!(
        "signed in at {server} as {} ({}) until {}",
        shown(&name),
        role.as_str(),
        time(expires)
    );
    stored.put(Entry {
        server: server.to_string(),
        ca: pin.to_string(),
        name,
        token,
        expires,
    });
    stored.save(&path)?;
    output::talk(&said);
    Ok(())
}

/// Ends the session here and at the server.
pub(crate) async fn logout(options: &Options) -> anyhow::Result<()> {
    let path = credentials::path()?;
    let mut stored = Credentials::load(&path)?;
    let server = options.address(&stored)?;
    let Some(entry) = stored.of(&server.to_string()).cloned() else {
        output::talk(&format!("you were not signed in at {server}"));
        return Ok(());
    };
    stored.remove(&entry.server);
    stored.save(&path)?;
    let pin = entry.ca.parse()?;
    let client = AdminClient::new(server.clone(), pin, Some(entry.token))?;
    match client.delete(&["sessions", "current"]).await {
        Ok(()) => output::talk(&format!("signed out at {server}")),
        Err(error) => output::talk(&format!(
            "forgot the session here; the server was not told: {error}"
        )),
    }
    Ok(())
}

/// The authority to trust: given, pinned before, found in the data folder on this host, or compared by a
/// person now.
async fn pin(
    options: &Options,
    server: &AdminAddress,
    stored: &Credentials,
) -> anyhow::Result<CaPin> {
    if let Some(pin) = options.ca {
        return Ok(pin);
    }
    let shown = authority_of(server).await?;
    if local_pin(&options.data()) == Some(shown) {
        return Ok(shown);
    }
    let known = stored
        .of(&server.to_string())
        .and_then(|entry| entry.ca.parse().ok());
    match known {
        Some(pin) if pin == shown => return Ok(pin),
        Some(pin) => output::talk(&format!(
            "WARNING: {server} has another certificate authority than before ({pin}).\n\
             Either it was set up anew, or somebody stands between you and it."
        )),
        None => {}
    }
    let how = "on the server's host: openssl x509 -in /var/lib/farrier/ca/root.pem -noout -fingerprint -sha256";
    output::talk(&format!(
        "The certificate authority of {server} has the SHA-256 fingerprint\n\n    {}\n",
        by_pairs(shown)
    ));
    if !is_interactive() {
        let message = format!("nobody is here to compare the fingerprint of {server}");
        return Err(Failure::refused(message)
            .hint(format!("compare it ({how}), then give it with --ca"))
            .into());
    }
    output::talk(&format!("Compare it: {how}"));
    match secret::ask("Is it the same? (yes/no) ")?.trim() {
        "yes" => Ok(shown),
        _ => Err(Failure::refused("the server is not trusted; nothing was sent to it").into()),
    }
}

/// As openssl writes it, for the eye that compares.
fn by_pairs(pin: CaPin) -> String {
    pin.0
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":")
}
