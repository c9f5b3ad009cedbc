//! Refusals over HTTP: a status, and the error body of the interfaces.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use farrier_api::error::ErrorBody;
use farrier_db::DbError;
use farrier_image::store::StoreError;

use crate::core::new_id;
use crate::fleet::FleetError;

/// Why a request was not done.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    body: ErrorBody,
}

impl Failure {
    #[must_use]
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self {
            status,
            body: ErrorBody {
                code,
                message,
                hint: None,
                retry: false,
                request: String::new(),
                plan: None,
            },
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.body.hint = Some(hint.into());
        self
    }

    /// The same request may work later.
    #[must_use]
    pub fn retry(mut self) -> Self {
        self.body.retry = true;
        self
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    #[must_use]
    pub fn body(&self) -> &ErrorBody {
        &self.body
    }
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        let (status, code) = match &error {
            DbError::Conflict { .. } | DbError::Taken { .. } => (StatusCode::CONFLICT, "conflict"),
            DbError::Missing { .. } => (StatusCode::NOT_FOUND, "not_found"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "database"),
        };
        let failure = Self::new(status, code, error.to_string());
        if error.retry_helps() {
            failure.retry()
        } else {
            failure
        }
    }
}

impl From<FleetError> for Failure {
    fn from(error: FleetError) -> Self {
        match error {
            FleetError::Db(error) => error.into(),
            FleetError::NoMachine(_) | FleetError::NoTask(_) => {
                Self::new(StatusCode::NOT_FOUND, "not_found", error.to_string())
            }
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (status, code) = match &error {
            StoreError::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "store_full"),
            StoreError::NoImage(_) | StoreError::NoVersion { .. } => {
                (StatusCode::NOT_FOUND, "not_found")
            }
            StoreError::Corrupt { .. } | StoreError::NoChunk(_) => {
                (StatusCode::CONFLICT, "chunk_damaged")
            }
            StoreError::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "chunk_refused"),
            StoreError::MissingChunks { .. } => (StatusCode::CONFLICT, "chunks_missing"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "store"),
        };
        let failure = Self::new(status, code, error.to_string());
        if error.may_retry() {
            failure.retry()
        } else {
            failure
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(mut self) -> Response {
        self.body.request = new_id().simple().to_string();
        if self.status.is_server_error() {
            tracing::warn!(
                request = self.body.request,
                code = self.body.code,
                "{}",
                self.body.message
            );
        } else {
            tracing::debug!(
                request = self.body.request,
                code = self.body.code,
                "{}",
                self.body.message
            );
        }
        (self.status, Json(self.body)).into_response()
    }
}
