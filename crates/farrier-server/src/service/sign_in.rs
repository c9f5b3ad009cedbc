//! From a credential to a [`Principal`]: sign-in, sessions, tokens, the first administrator.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use farrier_api::admin::{SetUp, SignIn};
use farrier_db::{DbError, Redeemed, Secret, TokenHash, User, WebSession};
use farrier_engine::WallTime;
use farrier_engine::model::Role;

use super::access::new_user;
use super::{Code, Refusal};
use crate::auth::limit::SignInLimit;
use crate::auth::{Principal, Via, password, token};
use crate::core::{Core, now};

/// The door: knows how to recognise people and programs.
#[derive(Debug)]
pub struct Door {
    core: Arc<Core>,
    limit: SignInLimit,
    local: Option<TokenHash>,
}

/// A session that was just made.
#[derive(Debug)]
pub struct SignedInSession {
    pub token: Secret,
    pub csrf: Secret,
    pub ends: WallTime,
    pub name: String,
    pub role: Role,
}

impl Door {
    /// `local` is the hash of the token that opens the door for the server's own host.
    #[must_use]
    pub fn new(core: Arc<Core>, local: Option<TokenHash>) -> Self {
        let mut key = [0; 32];
        // Without randomness rows can be guessed, which costs somebody a wait and lets nobody in.
        let _ = getrandom::fill(&mut key);
        Self {
            core,
            limit: SignInLimit::new(key),
            local,
        }
    }

    #[must_use]
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Makes a session for whoever knows the password. An unknown name, a disabled user and a wrong
    /// password get one answer, after the same work.
    pub async fn sign_in(
        &self,
        asked: &SignIn,
        from: Option<IpAddr>,
    ) -> Result<SignedInSession, Refusal> {
        let at = now();
        if let Err(wait) = self.limit.check(at, from, &asked.name) {
            let minutes = wait.as_secs() / 60 + 1;
            return Err(Refusal::new(
                Code::TooManyAttempts,
                format!("too many wrong passwords: wait {minutes} minutes"),
            ));
        }
        let user = self
            .core
            .db
            .user_by_name(&asked.name)
            .await?
            .filter(|u| !u.disabled);
        if !password::verify(&asked.password, user.as_ref().map(|u| &u.password)).await {
            self.limit.failed(at, from, &asked.name);
            tracing::info!(from = ?from, "a sign-in was refused");
            return Err(Refusal::new(
                Code::WrongPassword,
                "name or password is wrong",
            ));
        }
        let Some(user) = user else {
            return Err(Refusal::new(
                Code::WrongPassword,
                "name or password is wrong",
            ));
        };
        self.open(&user).await
    }

    /// Makes the first administrator with the token from the console, and signs them in.
    pub async fn set_up(
        &self,
        asked: &SetUp,
        from: Option<IpAddr>,
    ) -> Result<SignedInSession, Refusal> {
        let at = now();
        if self.limit.check(at, from, SETUP).is_err() {
            return Err(Refusal::new(
                Code::TooManyAttempts,
                "too many wrong setup tokens: wait a quarter of an hour",
            ));
        }
        let first = new_user(&asked.name, &asked.password, Role::Admin).await?;
        let hash = token::hash(asked.token.trim());
        match self.core.db.create_first_admin(hash, at, &first).await? {
            Redeemed::Granted(()) => self.open(&first).await,
            Redeemed::AlreadyUsed | Redeemed::Expired | Redeemed::Unknown => {
                self.limit.failed(at, from, SETUP);
                Err(Refusal::new(Code::SetupToken, "the setup token is wrong, used already or too old")
                    .hint("it is printed by the server when it starts without an administrator; start it again for a new one"))
            }
        }
    }

    /// Whether nobody can sign in yet.
    pub async fn wants_setup(&self) -> Result<bool, Refusal> {
        Ok(!self
            .core
            .db
            .users()
            .await?
            .iter()
            .any(|u| u.role == Role::Admin && !u.disabled))
    }

    /// Who shows this token: an API token, a session, or the server's own host.
    pub async fn recognise(
        &self,
        shown: &str,
        from: Option<IpAddr>,
    ) -> Result<Option<Principal>, DbError> {
        if self
            .local
            .as_ref()
            .is_some_and(|local| token::is(shown, local))
        {
            return Ok(Some(Principal {
                name: "local".to_owned(),
                role: Role::Admin,
                via: Via::Local,
                from,
            }));
        }
        let (hash, at) = (token::hash(shown), now());
        if shown.starts_with(token::API_PREFIX) {
            let Some(found) = self.core.db.api_token(hash, at).await? else {
                return Ok(None);
            };
            if found.last_used.is_none_or(|used| at.since(used) > NOTE_USE) {
                self.core.db.api_token_used(hash, at).await?;
            }
            let name = format!("token {}", found.name);
            return Ok(Some(Principal {
                name,
                role: found.role,
                via: Via::Token,
                from,
            }));
        }
        let Some((session, user)) = self.core.db.web_session(hash, at).await? else {
            return Ok(None);
        };
        if session.idle_until < at + (IDLE - NOTE_USE) {
            self.core.db.extend_web_session(hash, at + IDLE).await?;
        }
        let via = Via::Session {
            user: user.id,
            hash,
            csrf: session.csrf,
        };
        Ok(Some(Principal {
            name: user.name,
            role: user.role,
            via,
            from,
        }))
    }

    /// Ends a session.
    pub async fn sign_out(&self, who: &Principal) -> Result<(), DbError> {
        if let Via::Session { hash, .. } = &who.via {
            self.core.db.delete_web_session(*hash).await?;
        }
        Ok(())
    }

    async fn open(&self, user: &User) -> Result<SignedInSession, Refusal> {
        let no_random = |e: token::NoRandom| Refusal::new(Code::Internal, e.to_string());
        let secret = token::new_token("").map_err(no_random)?;
        let csrf = Secret(token::new_token("").map_err(no_random)?);
        let at = now();
        let session = WebSession {
            hash: token::hash(&secret),
            user: user.id,
            csrf: csrf.clone(),
            created: at,
            idle_until: at + IDLE,
            ends: at + LIFETIME,
        };
        self.core.db.purge_web_sessions(at).await?;
        self.core.db.create_web_session(&session).await?;
        Ok(SignedInSession {
            token: Secret(secret),
            csrf,
            ends: session.ends,
            name: user.name.clone(),
            role: user.role,
        })
    }
}

/// Makes a setup token if there is no administrator yet; the caller prints it on the server's console.
pub async fn first_start(core: &Core) -> Result<Option<String>, Refusal> {
    if core
        .db
        .users()
        .await?
        .iter()
        .any(|u| u.role == Role::Admin && !u.disabled)
    {
        return Ok(None);
    }
    let secret = token::new_token("").map_err(|e| Refusal::new(Code::Internal, e.to_string()))?;
    core.db
        .set_setup_token(token::hash(&secret), now() + SETUP_LIFETIME)
        .await?;
    Ok(Some(secret))
}

/// The row of the limiter that counts wrong setup tokens; not a possible user name.
const SETUP: &str = "setup token";
/// A page left open over lunch stays signed in; one left open over night does not.
const IDLE: Duration = Duration::from_secs(2 * 3600);
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// How exactly uses are noted: a database write per request would be a waste.
const NOTE_USE: Duration = Duration::from_secs(60);
const SETUP_LIFETIME: Duration = Duration::from_secs(24 * 3600);
