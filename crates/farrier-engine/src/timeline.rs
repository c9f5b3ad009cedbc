//! The life story of a machine, told to people.

use serde::{Deserialize, Serialize};

use crate::WallTime;
use crate::model::MachineId;

/// One entry. `text` is a whole sentence in plain words; `details` are the facts behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub machine: MachineId,
    pub at: WallTime,
    pub kind: Kind,
    pub text: String,
    /// Names and values, in the order to show them.
    pub details: Vec<(String, String)>,
}

/// What an entry is about; decides its mark on the page and lets people filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A packet or request came in.
    Seen,
    /// We answered it so.
    Answered,
    /// We chose not to answer, or said no.
    Refused,
    /// A file went out, or did not arrive whole.
    Transfer,
    /// The agent enrolled, reported or left.
    Agent,
    /// A task or one of its steps changed.
    Task,
    /// A person changed something.
    Operator,
    /// Something a person should look at.
    Warning,
}
