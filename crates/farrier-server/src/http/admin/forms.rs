//! What the page's forms do. Each form carries the secret of its session; the answer to a good one is a
//! redirect, so that a reload repeats nothing.

use axum::Form;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use farrier_api::admin::{MachineChange, SetUp, SignIn};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::api::Named;
use super::policy_pages::{Fields, confirmed, plan_page};
use super::{Shared, html};
use crate::http::session::{From, check_csrf, clear_cookie, is_by_cookie, set_cookie};
use crate::service::{Code, Desk, Refusal, SignedInSession};
use crate::ui::{self, Frame};

type Page = Result<Response, Refusal>;

/// A form of a signed-in page, with its secret checked.
pub(super) struct Filled<T> {
    pub(super) desk: Desk,
    pub(super) form: T,
}

#[derive(Deserialize)]
struct Secured<T> {
    #[serde(default)]
    csrf: String,
    #[serde(flatten)]
    form: T,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Filled<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let desk = request.extensions().get::<Desk>().cloned();
        let desk = desk.ok_or_else(crate::http::session::not_signed_in)?;
        let by_cookie = is_by_cookie(request.headers());
        let Form(secured) = Form::<Secured<T>>::from_request(request, state)
            .await
            .map_err(|e| Refusal::bad(e.body_text()))?;
        check_csrf(desk.who(), Some(&secured.csrf), by_cookie)?;
        Ok(Self {
            desk,
            form: secured.form,
        })
    }
}

/// A form without fields of its own.
#[derive(Deserialize)]
pub(super) struct Nothing {}

#[derive(Deserialize)]
pub(super) struct LoginForm {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

pub(super) async fn login(
    State(door): State<Shared>,
    From(from): From,
    headers: HeaderMap,
    form: Form<LoginForm>,
) -> Page {
    refuse_foreign(&headers)?;
    let Form(form) = form;
    let asked = SignIn {
        name: form.name,
        password: form.password,
    };
    match door.sign_in(&asked, from).await {
        Ok(session) => Ok(welcome(&session, &form.next)),
        Err(refusal) if matches!(refusal.code, Code::WrongPassword | Code::TooManyAttempts) => {
            let frame = Frame::new("Sign in", "", None);
            let page = ui::Login {
                frame,
                error: sentence(&refusal.message),
                next: form.next,
            };
            Ok(html(refusal.code.status(), &page))
        }
        Err(refusal) => Err(refusal),
    }
}

pub(super) async fn set_up(
    State(door): State<Shared>,
    From(from): From,
    headers: HeaderMap,
    Form(asked): Form<SetUp>,
) -> Page {
    refuse_foreign(&headers)?;
    match door.set_up(&asked, from).await {
        Ok(session) => Ok(welcome(&session, "")),
        Err(refusal)
            if matches!(
                refusal.code,
                Code::SetupToken | Code::BadRequest | Code::TooManyAttempts
            ) =>
        {
            let frame = Frame::new("First administrator", "", None);
            let page = ui::Setup {
                frame,
                error: sentence(&refusal.message),
                done: !door.wants_setup().await?,
            };
            Ok(html(refusal.code.status(), &page))
        }
        Err(refusal) => Err(refusal),
    }
}

/// A page of another site must not sign people in as somebody else. There is no session yet whose secret
/// could be checked, but browsers say where a form came from (Fetch Metadata).
fn refuse_foreign(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get("sec-fetch-site").map(|v| v.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(Refusal::new(Code::Csrf, "this form came from another site")),
    }
}

fn welcome(session: &SignedInSession, next: &str) -> Response {
    let next = if is_own_path(next) { next } else { "/" };
    (
        [(header::SET_COOKIE, set_cookie(session))],
        Redirect::to(next),
    )
        .into_response()
}

/// `//host` and `/\host` lead away.
fn is_own_path(next: &str) -> bool {
    next.starts_with('/')
        && !next.starts_with("//")
        && next.chars().all(|c| c.is_ascii_graphic() && c != '\\')
}

pub(super) fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    let first = chars
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

pub(super) async fn logout(State(door): State<Shared>, filled: Filled<Nothing>) -> Page {
    door.sign_out(filled.desk.who()).await?;
    Ok((
        [(header::SET_COOKIE, clear_cookie())],
        Redirect::to("/login"),
    )
        .into_response())
}

pub(super) async fn approve(Named(id): Named<Uuid>, filled: Filled<Nothing>) -> Page {
    filled.desk.approve_machine(id).await?;
    Ok(to_machine(id))
}

pub(super) async fn disable(Named(id): Named<Uuid>, filled: Filled<Nothing>) -> Page {
    filled.desk.disable_machine(id).await?;
    Ok(to_machine(id))
}

/// Rules may ask for a machine's name, so that a new one can start a deployment.
pub(super) async fn rename(Named(id): Named<Uuid>, filled: Filled<Fields>) -> Page {
    let Filled { desk, form } = filled;
    let change = MachineChange {
        name: Some(form.get("name").map_or("", |name| name.trim()).to_owned()),
        ..MachineChange::default()
    };
    match desk.change_machine(id, change, confirmed(&form)).await {
        Ok(_) => Ok(to_machine(id)),
        Err(Refusal {
            plan: Some(plan), ..
        }) => {
            let (action, back) = (format!("/machines/{id}/rename"), format!("/machines/{id}"));
            plan_page(&desk, &plan, &action, form, &back)
        }
        Err(refusal) => Err(refusal),
    }
}

#[derive(Deserialize)]
pub(super) struct ConfirmForm {
    confirm: String,
    #[serde(default)]
    version: String,
}

pub(super) async fn delete_machine(Named(id): Named<Uuid>, filled: Filled<ConfirmForm>) -> Page {
    filled
        .desk
        .delete_machine(id, Some(&filled.form.confirm))
        .await?;
    Ok(Redirect::to("/machines").into_response())
}

pub(super) async fn delete_image(Named(name): Named<String>, filled: Filled<ConfirmForm>) -> Page {
    filled
        .desk
        .delete_image(&name, &filled.form.version, Some(&filled.form.confirm))
        .await?;
    Ok(Redirect::to("/images").into_response())
}

pub(super) async fn prune(filled: Filled<ConfirmForm>) -> Page {
    filled.desk.prune(Some(&filled.form.confirm)).await?;
    Ok(Redirect::to("/images").into_response())
}

pub(super) async fn cancel(Named(id): Named<Uuid>, filled: Filled<Nothing>) -> Page {
    let task = filled.desk.cancel_task(id).await?;
    Ok(to_machine(task.machine))
}

pub(super) async fn retry(Named(id): Named<Uuid>, filled: Filled<ConfirmForm>) -> Page {
    filled
        .desk
        .retry_task(id, Some(filled.form.confirm))
        .await?;
    Ok(Redirect::to("/tasks").into_response())
}

pub(super) fn to_machine(id: Uuid) -> Response {
    Redirect::to(&format!("/machines/{id}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::is_own_path;

    #[test]
    fn after_sign_in_nobody_is_led_away() {
        assert!(is_own_path("/machines?search=x"));
        for away in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\nb",
            "javascript:alert(1)",
        ] {
            assert!(!is_own_path(away), "{away:?}");
        }
    }
}
