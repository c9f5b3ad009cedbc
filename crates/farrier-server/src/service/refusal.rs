//! How a request ends that was not done: a stable code, a sentence, and what to do next.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use farrier_api::admin::Plan;
use farrier_api::error::ErrorBody;
use farrier_db::DbError;
use farrier_image::store::StoreError;

use crate::fleet::FleetError;

/// Declares the codes with their HTTP status and the line of the reference page.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal $status:ident $meaning:literal;)*) => {
        /// What went wrong, for programs. Codes are never renamed; `docs/reference/errors.md` is held to
        /// this list by a test.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        /// Every code with its status and meaning.
        pub const CODES: &[(Code, &str, StatusCode, &str)] =
            &[$((Code::$name, $text, StatusCode::$status, $meaning),)*];

        impl Code {
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }
        }
    };
}

codes! {
    BadRequest "bad_request" BAD_REQUEST "The request makes no sense; the message says which part.";
    Conflict "conflict" CONFLICT "Somebody else changed it at the same time; read it again and repeat.";
    ConfirmNeeded "confirm_needed" CONFLICT "It destroys something or touches many machines: ask for the plan and repeat its `confirm`.";
    Csrf "csrf" FORBIDDEN "A form came without the secret of its session: reload the page and repeat.";
    Forbidden "forbidden" FORBIDDEN "The role of the caller is not enough.";
    ImageInUse "image_in_use" CONFLICT "A task needs the image.";
    Internal "internal" INTERNAL_SERVER_ERROR "A fault of the server; its log says more under the request id.";
    LastAdmin "last_admin" CONFLICT "No enabled administrator would be left.";
    NotFound "not_found" NOT_FOUND "There is no such thing.";
    NotPossible "not_possible" CONFLICT "The state it is in does not allow it.";
    NotSignedIn "not_signed_in" UNAUTHORIZED "There is no credential, or it is wrong, ended or revoked.";
    PlanChanged "plan_changed" CONFLICT "What would be done is no longer what was confirmed: look at the new plan.";
    SetupToken "setup_token" FORBIDDEN "The setup token is wrong, used or too old: start the server again for a new one.";
    StoreFull "store_full" INSUFFICIENT_STORAGE "The image store has no room; the same request works when it has.";
    Taken "taken" CONFLICT "The name is in use.";
    TooLarge "too_large" PAYLOAD_TOO_LARGE "The request is larger than any good one.";
    TooManyAttempts "too_many_attempts" TOO_MANY_REQUESTS "Too many wrong passwords; wait.";
    Unavailable "unavailable" SERVICE_UNAVAILABLE "The database or the store is away; the same request may work later.";
    WrongPassword "wrong_password" UNAUTHORIZED "Name or password is wrong.";
}

/// A request that was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
    pub retry: bool,
    /// What would be done, where it only wants to be confirmed.
    pub plan: Option<Box<Plan>>,
}

impl Refusal {
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let retry = matches!(
            code,
            Code::StoreFull | Code::Unavailable | Code::TooManyAttempts
        );
        Self {
            code,
            message: message.into(),
            hint: None,
            retry,
            plan: None,
        }
    }

    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plan = Some(Box::new(plan));
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    #[must_use]
    pub fn missing(what: &str, id: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} {id}"))
            .hint(format!("list what there is: farrier {what} list"))
    }

    #[must_use]
    pub fn body(&self, request: String) -> ErrorBody {
        ErrorBody {
            code: self.code.as_str().to_owned(),
            message: self.message.clone(),
            hint: self.hint.clone(),
            retry: self.retry,
            request,
            plan: self.plan.clone(),
        }
    }
}

/// The request id is put in by the layer that knows it.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.code.status(), Json(self.body(String::new()))).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        let code = match &error {
            DbError::Conflict { .. } => Code::Conflict,
            DbError::Missing { .. } => Code::NotFound,
            DbError::Taken { .. } => Code::Taken,
            DbError::LastAdmin => Code::LastAdmin,
            _ if error.retry_helps() => Code::Unavailable,
            _ => Code::Internal,
        };
        let (message, hint) = what_and_remedy(&error.to_string());
        Self {
            hint,
            ..Self::new(code, message)
        }
    }
}

impl From<FleetError> for Refusal {
    fn from(error: FleetError) -> Self {
        match error {
            FleetError::NoMachine(id) => Self::missing("machine", id),
            FleetError::NoTask(id) => Self::new(
                Code::NotPossible,
                format!("the task {id} has ended already"),
            ),
            FleetError::Db(error) => error.into(),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Full { .. } => Code::StoreFull,
            StoreError::NoImage(_) | StoreError::NoVersion { .. } | StoreError::NoChunk(_) => {
                Code::NotFound
            }
            StoreError::Refused(_) | StoreError::MissingChunks { .. } => Code::BadRequest,
            _ if error.may_retry() => Code::Unavailable,
            _ => Code::Internal,
        };
        let (message, hint) = what_and_remedy(&error.to_string());
        Self {
            hint,
            ..Self::new(code, message)
        }
    }
}

/// Errors below end with what to do, after the last colon or semicolon.
fn what_and_remedy(text: &str) -> (String, Option<String>) {
    match text.rfind("; ").or_else(|| text.rfind(": ")) {
        Some(at) => (text[..at].to_owned(), Some(text[at + 2..].to_owned())),
        None => (text.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use farrier_db::DbError;

    use super::{CODES, Code, Refusal};

    #[test]
    fn the_reference_page_lists_every_code_and_no_other() {
        let mut page = String::from(HEAD);
        for (_, code, status, meaning) in CODES {
            page.push_str(&format!("| `{code}` | {} | {meaning} |\n", status.as_u16()));
        }
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/reference/errors.md"
        );
        if std::env::var_os("FARRIER_UPDATE").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            written, page,
            "codes are frozen; if one was added, run this test with FARRIER_UPDATE=1"
        );
    }

    #[test]
    fn errors_of_the_database_keep_their_remedy() {
        let refusal = Refusal::from(DbError::Taken {
            what: "user",
            id: "ada".to_owned(),
        });
        assert_eq!(refusal.code, Code::Taken);
        assert_eq!(refusal.message, "the user ada exists already");
        assert_eq!(refusal.hint.as_deref(), Some("choose another"));
    }

    const HEAD: &str = "# Error codes of the API\n\n\
        Every refusal of `/api/v1` carries a JSON body with a stable `code`, a `message`, often a `hint`, whether a\n\
        `retry` of the same request may work, and the `request` id under which the server's log has more.\n\n\
        | code | status | meaning |\n| --- | --- | --- |\n";
}
