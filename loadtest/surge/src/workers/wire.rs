//! What coordinator and workers say to each other, as JSON in core NATS messages below `lt.<run>.`
//!
//! | subject | from → to | says |
//! |---|---|---|
//! | `clock` | worker, asks | what time is it? |
//! | `hello` | worker, asks | here I am, with so many cores; the answer is a number or a refusal |
//! | `alive` | worker | I am still at it, before the load begins; or why I cannot |
//! | `plan.<worker>` | coordinator, asks | this is played, and this part is yours |
//! | `ready` | worker, asks | these people of mine have an account |
//! | `people.<worker>` | coordinator, asks | these people there are, wherever they live |
//! | `start.<worker>` | coordinator, asks | it begins at this moment of my clock |
//! | `tick` | worker | what I recorded, numbered |
//! | `ctl` | coordinator, twice a second | how far the run is, who took over from whom, and what I heard of each of you |
//! | `done` | worker, asks | that was all; the answer says whether it was |
//!
//! Whatever is asked is asked again until it is answered, so everybody answers a repetition as the first time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Offset, Part};
use crate::gates::Check;
use crate::ledger::Counts;

/// Raised when the two would misunderstand each other.
pub const VERSION: u32 = 2;

/// A worker introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    /// Drawn by the worker.
    pub id: u64,
    pub host: String,
    pub pid: u32,
    pub cores: u32,
    /// How many connections it may have, more or less.
    pub descriptors: u64,
    pub clock: Offset,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Welcome {
    /// The worker's number, from 1.
    Worker(u32),
    Refused(String),
}

/// The coordinator's clock, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    pub micros: u64,
}

/// Before the load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    pub worker: u32,
    /// What it does at the moment.
    pub doing: String,
    /// It cannot go on, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// What is played. The load is planned again by the worker, from the same words and the same seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub worker: u32,
    pub of_workers: u32,
    pub part: Part,
    /// The command line of the coordinator, without the name of the program.
    pub arguments: Vec<String>,
    pub seed: u64,
    pub started_micros: u64,
    pub target: String,
    pub codes: Vec<String>,
    /// Who does not behave, as `--cohorts` has it.
    pub cohorts: String,
    /// BLAKE3 of the trace, which has to be on the worker's machine, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    pub owned: bool,
    /// The rude do nothing: it is the run that another one is compared with.
    pub silent: bool,
    /// The run that is to be played after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// What the run is judged by, for the folder: should the coordinator be gone, it is judged from there.
    pub gates: Vec<Check>,
}

/// Whether what was asked can be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Yes,
    No(String),
}

/// Some of the people with an account. The number of pieces is known from the first on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// Who tells; 0 is the coordinator.
    pub worker: u32,
    pub piece: u32,
    pub pieces: u32,
    /// By number of the population.
    pub accounts: Vec<(u32, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// By the coordinator's clock.
    pub micros: u64,
}

/// What a worker appended to its files, as it stands in them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    pub worker: u32,
    pub seq: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rows: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub histograms: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub crossings: String,
    /// Absent in pieces that went ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressed: Option<Progressed>,
}

/// How far a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progressed {
    /// Seconds below are over.
    pub seconds: u64,
    /// Of its own ledger.
    pub counts: Counts,
    pub lag_p99_ms: Option<f64>,
    /// How far it is: one that is late offers what it has to, whatever the time.
    pub step: Step,
    /// The last stage in which nothing is under way any more.
    pub quiet: Option<Step>,
}

/// How far the run is, once its load is over or was ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    #[default]
    Running,
    Closing,
    Quiet,
    Over,
}

/// What of the run was a lost worker's, and whose it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inheritance {
    pub part: Part,
    /// Arrivals from this second on.
    pub from_s: u64,
    /// Workers that take turns.
    pub heirs: Vec<u32>,
}

/// Said again and again: a message that is lost makes nobody miss a word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    pub step: Step,
    /// The run does not take place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called_off: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inheritances: Vec<Inheritance>,
    /// Workers of which nothing is taken any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<u32>,
    /// Up to which tick each worker was heard.
    pub heard: BTreeMap<u32, u64>,
}

/// A worker has told everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub worker: u32,
    pub last: u64,
    pub counts: Counts,
    pub folder: String,
    /// Somebody ended it before its time.
    pub interrupted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Received {
    Everything,
    /// Only up to this tick.
    UpTo(u64),
}
