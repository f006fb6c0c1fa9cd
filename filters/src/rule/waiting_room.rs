//! `waiting_room`: sends the visits of its routes through a room.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `waiting_room: { room: drop, routes: [shop, checkout] }`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitingRoomSettings {
    /// Name of the room.
    pub room: String,
    /// Routes it covers; all filtered routes when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Decide and record, but do not enforce.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}
