//! Disk images that machines start, and the values of one machine in them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whose values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MediumValuesQuery {
    pub mac: String,
    /// As if it spoke from there; where it was last heard, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// What a machine's own copy of a disk image would hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MediumValues {
    /// Where the machine is taken to be.
    #[serde(default)]
    pub address: Option<String>,
    /// The image has `FARRIER.BAT`, which gets every value that is known.
    pub batch: bool,
    /// What the image asks for; every value where it has `FARRIER.BAT`.
    pub values: Vec<MediumValue>,
    /// What of the image cannot be read, so that values may be missing in it; none where it is sound.
    #[serde(default)]
    pub fault: Option<String>,
    /// Why the machine would not be sent it; none where it would.
    #[serde(default)]
    pub refused: Option<String>,
}

/// One value of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MediumValue {
    /// As the image writes it: `FARRIER_HOME`.
    pub variable: String,
    /// None is not known: its places stay blank.
    #[serde(default)]
    pub value: Option<String>,
    /// Who says so, such as `group lab`; or why nothing is known.
    pub origin: String,
    /// How many characters its places hold, each width once.
    pub widths: Vec<u32>,
}
