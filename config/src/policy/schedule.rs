//! What is to happen, and when.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_filters::seats::operate::Action;

use super::values::Timestamp;

/// `- { at: 2026-12-01T10:30:00 Asia/Shanghai, room: drop, do: { slow: 10/s } }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scheduled {
    /// When. What is past when the gate starts is done in order, so that a restart changes nothing.
    pub at: Timestamp,
    /// To which room; this or `sale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// To which sale (and its room).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sale: Option<String>,
    /// What: `pause`, `resume`, `drain`, `close`, `open`, `as_written`, `{ slow: 10/s }` or `{ message: TEXT }`.
    #[serde(rename = "do")]
    pub action: Action,
}
