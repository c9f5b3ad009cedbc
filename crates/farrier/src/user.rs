//! `farrier user` and `farrier token`: who may ask.

use clap::{Args, Subcommand, ValueEnum};
use farrier_api::admin::{ApiToken, NewToken, NewUser, Role, TokenMade, User, UserChange};
use farrier_server::ui::text::shown;

use crate::connection::{Session, not_confirmed};
use crate::output::{self, Table, time};
use crate::secret;

#[derive(Debug, Subcommand)]
pub(crate) enum UserVerb {
    /// List people.
    List,
    /// Add a person; asks for the password.
    Add {
        name: String,
        #[arg(long)]
        role: RoleName,
        #[command(flatten)]
        password: Password,
    },
    /// Set a person's password; asks for it. Ends their sessions.
    Passwd {
        name: String,
        #[command(flatten)]
        password: Password,
    },
    /// Change what a person may do. Ends their sessions.
    Role { name: String, role: RoleName },
    /// Keep a person out.
    Disable { name: String },
    /// Let a disabled person in again.
    Enable { name: String },
    /// Delete a person.
    Delete {
        name: String,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// List tokens for programs. The tokens themselves are not kept.
    List,
    /// Make a token; it is shown once.
    Add {
        name: String,
        #[arg(long)]
        role: RoleName,
        /// How long it is good for; for ever when left out.
        #[arg(long)]
        days: Option<u32>,
    },
    /// Revoke a token.
    Delete {
        name: String,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Password {
    /// Read the password from standard input instead of asking for it.
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleName {
    /// Everything.
    Admin,
    /// Look, and run tasks.
    Operator,
    /// Look.
    Viewer,
}

impl RoleName {
    fn role(self) -> Role {
        match self {
            Self::Admin => Role::Admin,
            Self::Operator => Role::Operator,
            Self::Viewer => Role::Viewer,
        }
    }
}

pub(crate) async fn users(session: &Session, verb: UserVerb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        UserVerb::List => session.show(&client.get(&["users"]).await?, |users: &Vec<User>| {
            list(users)
        }),
        UserVerb::Add {
            name,
            role,
            password,
        } => {
            let password = secret::new_password(password.password_stdin)?;
            let answer = client
                .post(
                    &["users"],
                    &NewUser {
                        name,
                        password,
                        role: role.role(),
                    },
                )
                .await?;
            session.show(&answer, said("added"))
        }
        UserVerb::Passwd { name, password } => {
            let password = Some(secret::new_password(password.password_stdin)?);
            change(
                session,
                &name,
                UserChange {
                    password,
                    ..UserChange::default()
                },
                "has a new password",
            )
            .await
        }
        UserVerb::Role { name, role } => {
            let role = Some(role.role());
            change(
                session,
                &name,
                UserChange {
                    role,
                    ..UserChange::default()
                },
                "has a new role",
            )
            .await
        }
        UserVerb::Disable { name } => {
            let disabled = Some(true);
            change(
                session,
                &name,
                UserChange {
                    disabled,
                    ..UserChange::default()
                },
                "disabled",
            )
            .await
        }
        UserVerb::Enable { name } => {
            let disabled = Some(false);
            change(
                session,
                &name,
                UserChange {
                    disabled,
                    ..UserChange::default()
                },
                "enabled",
            )
            .await
        }
        UserVerb::Delete { name, yes } => {
            sure(
                yes,
                &format!("Delete the user {name} and end their sessions."),
            )?;
            client.delete(&["users", &name]).await?;
            session.done(&format!("{}: deleted", shown(&name)))
        }
    }
}

pub(crate) async fn tokens(session: &Session, verb: TokenVerb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        TokenVerb::List => session
            .show(&client.get(&["tokens"]).await?, |tokens: &Vec<ApiToken>| {
                token_list(tokens)
            }),
        TokenVerb::Add { name, role, days } => {
            let answer = client
                .post(
                    &["tokens"],
                    &NewToken {
                        name,
                        role: role.role(),
                        days,
                    },
                )
                .await?;
            output::talk("this token is not shown again; programs give it in FARRIER_TOKEN:");
            session.show(&answer, |made: &TokenMade| made.token.clone())
        }
        TokenVerb::Delete { name, yes } => {
            sure(
                yes,
                &format!("Revoke the token {name}: programs that use it are refused from now on."),
            )?;
            client.delete(&["tokens", &name]).await?;
            session.done(&format!("{}: revoked", shown(&name)))
        }
    }
}

async fn change(
    session: &Session,
    name: &str,
    change: UserChange,
    word: &'static str,
) -> anyhow::Result<()> {
    session.show(
        &session.client.patch(&["users", name], &change).await?,
        said(word),
    )
}

fn said(word: &'static str) -> impl FnOnce(&User) -> String {
    move |user| format!("{} ({}): {word}", shown(&user.name), user.role.as_str())
}

/// These are done in one request, so the plan is made here.
fn sure(yes: bool, plan: &str) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    output::talk(&shown(plan));
    Err(not_confirmed())
}

fn list(users: &[User]) -> String {
    let mut table = Table::new(["NAME", "ROLE", "STATE", "CREATED"]);
    for user in users {
        let state = if user.disabled { "disabled" } else { "enabled" };
        table.row([
            user.name.clone(),
            user.role.as_str().to_owned(),
            state.to_owned(),
            time(user.created),
        ]);
    }
    table.to_string()
}

fn token_list(tokens: &[ApiToken]) -> String {
    let mut table = Table::new(["NAME", "ROLE", "CREATED", "EXPIRES", "LAST USED"]);
    for token in tokens {
        table.row([
            token.name.clone(),
            token.role.as_str().to_owned(),
            time(token.created),
            token.expires.map_or_else(|| "never".to_owned(), time),
            token.last_used.map(time).unwrap_or_default(),
        ]);
    }
    table.to_string()
}
