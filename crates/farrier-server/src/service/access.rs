//! Users, tokens and the audit log.

use std::time::Duration;

use farrier_api::admin::{
    ApiToken, AuditEntry, Me, NewToken, NewUser, Page, TimelineQuery, TokenMade, User, UserChange,
};
use farrier_engine::model::UserId;

use super::convert::Like;
use super::{Code, Desk, Refusal, limit};
use crate::auth::{Action, password, token};
use crate::core::{new_id, now};

impl Desk {
    #[must_use]
    pub fn me(&self) -> Me {
        Me {
            name: self.who.name.clone(),
            role: self.who.role.like(),
            via: self.who.via.as_str().to_owned(),
        }
    }

    pub async fn users(&self) -> Result<Vec<User>, Refusal> {
        self.allow(Action::ManageUsers)?;
        Ok(self.core.db.users().await?.iter().map(user).collect())
    }

    pub async fn add_user(&self, new: NewUser) -> Result<User, Refusal> {
        self.allow(Action::ManageUsers)?;
        let fresh = new_user(&new.name, &new.password, new.role.like()).await?;
        self.core.db.create_user(&fresh).await?;
        self.audit(
            Action::ManageUsers,
            format!("new user {}, {}", fresh.name, new.role.as_str()),
        )
        .await;
        Ok(user(&fresh))
    }

    pub async fn change_user(&self, name: &str, change: UserChange) -> Result<User, Refusal> {
        self.allow(Action::ManageUsers)?;
        let mut changed = self.user_named(name).await?;
        if let Some(new) = &change.password {
            changed.password = password::hash(new)
                .await
                .map_err(|e| Refusal::bad(e.to_string()))?;
        }
        if let Some(role) = change.role {
            changed.role = role.like();
        }
        if let Some(disabled) = change.disabled {
            changed.disabled = disabled;
        }
        self.core.db.update_user(&changed).await?;
        self.audit(Action::ManageUsers, format!("changed user {name}"))
            .await;
        Ok(user(&changed))
    }

    pub async fn delete_user(&self, name: &str) -> Result<(), Refusal> {
        self.allow(Action::ManageUsers)?;
        let gone = self.user_named(name).await?;
        self.core.db.delete_user(gone.id).await?;
        self.audit(Action::ManageUsers, format!("deleted user {name}"))
            .await;
        Ok(())
    }

    pub async fn tokens(&self) -> Result<Vec<ApiToken>, Refusal> {
        self.allow(Action::ManageTokens)?;
        let tokens = self.core.db.api_tokens().await?;
        Ok(tokens
            .into_iter()
            .map(|t| ApiToken {
                name: t.name,
                role: t.role.like(),
                created: t.created.0,
                expires: t.expires.map(|at| at.0),
                last_used: t.last_used.map(|at| at.0),
            })
            .collect())
    }

    pub async fn add_token(&self, new: NewToken) -> Result<TokenMade, Refusal> {
        self.allow(Action::ManageTokens)?;
        check_name(&new.name)?;
        let secret = token::new_token(token::API_PREFIX)
            .map_err(|e| Refusal::new(Code::Internal, e.to_string()))?;
        let created = now();
        let days = |n: u32| created + Duration::from_secs(u64::from(n) * 24 * 3600);
        let stored = farrier_db::ApiToken {
            hash: token::hash(&secret),
            name: new.name.clone(),
            role: new.role.like(),
            created,
            expires: new.days.map(days),
            last_used: None,
        };
        self.core.db.create_api_token(&stored).await?;
        self.audit(
            Action::ManageTokens,
            format!("new token {}, {}", new.name, new.role.as_str()),
        )
        .await;
        Ok(TokenMade {
            name: new.name,
            token: secret,
        })
    }

    pub async fn delete_token(&self, name: &str) -> Result<(), Refusal> {
        self.allow(Action::ManageTokens)?;
        if !self.core.db.delete_api_token(name).await? {
            return Err(Refusal::missing("token", name));
        }
        self.audit(Action::ManageTokens, format!("revoked token {name}"))
            .await;
        Ok(())
    }

    pub async fn audit_log(&self, query: &TimelineQuery) -> Result<Page<AuditEntry>, Refusal> {
        self.allow(Action::ReadAudit)?;
        let before = query.after.as_deref().map(str::parse).transpose();
        let before =
            before.map_err(|_| Refusal::bad("`after` is not a place that a page ended at"))?;
        let limit = limit(query.limit);
        let rows = self.core.db.audit(before, limit).await?;
        let next = rows
            .last()
            .filter(|_| rows.len() >= limit as usize)
            .map(|row| row.seq.to_string());
        let items: Vec<_> = rows
            .into_iter()
            .map(|row| AuditEntry {
                at: row.value.at.0,
                who: row.value.who,
                action: row.value.what,
                resource: row.value.from.unwrap_or_default(),
                text: row.value.target,
            })
            .collect();
        Ok(Page {
            total: items.len() as u64,
            items,
            next,
        })
    }

    async fn user_named(&self, name: &str) -> Result<farrier_db::User, Refusal> {
        self.core
            .db
            .user_by_name(name)
            .await?
            .ok_or_else(|| Refusal::missing("user", name))
    }
}

fn user(u: &farrier_db::User) -> User {
    User {
        id: u.id.0,
        name: u.name.clone(),
        role: u.role.like(),
        disabled: u.disabled,
        created: u.created.0,
    }
}

/// A user ready to be stored.
pub(super) async fn new_user(
    name: &str,
    password: &str,
    role: farrier_engine::model::Role,
) -> Result<farrier_db::User, Refusal> {
    check_name(name)?;
    Ok(farrier_db::User {
        id: UserId(new_id()),
        name: name.to_owned(),
        password: password::hash(password)
            .await
            .map_err(|e| Refusal::bad(e.to_string()))?,
        role,
        disabled: false,
        created: now(),
    })
}

/// Names end up in logs, file names of scripts and command lines.
fn check_name(name: &str) -> Result<(), Refusal> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    if (1..=64).contains(&name.len()) && name.chars().all(good) && !name.starts_with('-') {
        Ok(())
    } else {
        Err(Refusal::bad(
            "not a name: use 1 to 64 letters, digits and . _ - @, not starting with a hyphen",
        ))
    }
}
