//! What was done to the service while a run went on: faults, and what came of them.

use serde::{Deserialize, Serialize};

/// One thing that happened, in seconds since the start of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it was begun.
    pub at_s: f64,
    pub kind: EventKind,
    /// What a chart calls it.
    pub label: String,
    /// How long it took; `None` while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_s: Option<f64>,
    /// What came of it, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outcome: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A command of `--at`.
    Fault,
    /// A run was continued after it had ended early.
    Resumed,
    /// A worker was not heard of any more.
    LostWorker,
    /// A gate ended the run.
    Aborted,
}
