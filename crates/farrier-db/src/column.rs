//! Domain values as columns and back.

use farrier_engine::WallTime;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::DbError;

/// A value as a JSON document.
pub(crate) fn to_doc<T: Serialize>(what: &'static str, value: &T) -> Result<String, DbError> {
    serde_json::to_string(value).map_err(DbError::document(what))
}

pub(crate) fn from_doc<T: DeserializeOwned>(what: &'static str, doc: &str) -> Result<T, DbError> {
    serde_json::from_str(doc).map_err(DbError::document(what))
}

/// A unit variant by its stored name; what else it may be, by its document.
pub(crate) fn to_name<T: Serialize>(what: &'static str, value: &T) -> Result<String, DbError> {
    match serde_json::to_value(value).map_err(DbError::document(what))? {
        serde_json::Value::String(name) => Ok(name),
        other => Ok(other.to_string()),
    }
}

pub(crate) fn from_name<T: DeserializeOwned>(
    what: &'static str,
    name: String,
) -> Result<T, DbError> {
    serde_json::from_value(serde_json::Value::String(name)).map_err(DbError::document(what))
}

/// Bytes of a fixed length.
pub(crate) fn bytes<const N: usize>(what: &'static str, column: &[u8]) -> Result<[u8; N], DbError> {
    column
        .try_into()
        .map_err(|_| damaged(what, "a value of another length"))
}

pub(crate) fn uuid(what: &'static str, column: &[u8]) -> Result<Uuid, DbError> {
    bytes(what, column).map(Uuid::from_bytes)
}

pub(crate) fn time(column: i64) -> WallTime {
    WallTime(column)
}

/// Counters and numbers that this program itself stored as such.
pub(crate) fn unsigned(what: &'static str, column: i64) -> Result<u64, DbError> {
    column
        .try_into()
        .map_err(|_| damaged(what, "a negative count"))
}

/// For limits and places in lists: more than SQL can count is as good as all.
pub(crate) fn signed(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

pub(crate) fn damaged(what: &'static str, found: &'static str) -> DbError {
    DbError::document(what)(serde::de::Error::custom(format_args!("found {found}")))
}
