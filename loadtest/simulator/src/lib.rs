//! Overload controllers in virtual time: what they keep, at any load, against clients of every kind.
//!
//! A [`Scenario`] says what is simulated, what is varied and what must come out; [`run`] plays it, [`suite()`] plays
//! all that ship with the simulator. Every law of admission is a [`Policy`]. Time is virtual and chance comes from a
//! seed, so a minute of ten times the load takes a second, and the same seed gives the same [`Outcome`].
//!
//! From the bottom: `events` and `time` make time pass, `cpu` and `station` are what servers have, `policy` what they
//! decide, `client` what clients do, `world` brings them together, `measure` counts. `scenario` and `capacity` say what
//! to play, `outcome` and `judge` what came of it, `table` prints it.
//!
//! [`room`] is a world of its own: a waiting room, its gateways and its crowd. So is [`autoscale`]: hours of a surge, pods and who adds them.
//!
//! What the model leaves out: memory, the network's bandwidth, and the cost of a connection that is merely open.

pub mod autoscale;
mod capacity;
mod client;
mod cpu;
mod events;
mod fault;
mod judge;
mod measure;
mod outcome;
mod plan;
mod policy;
mod random;
pub mod room;
mod scenario;
mod slab;
mod station;
mod suite;
pub mod table;
mod time;
mod world;

pub use capacity::Capacity;
pub use client::Cohort;
pub use fault::Fault;
pub use judge::{Comparison, Tally};
pub use outcome::{Figures, Outcome, Row, RunOutcome, Series, ServiceCapacity, TierOutcome};
pub use policy::{
    Arrival, Decision, Departure, Effects, Ending, HoldBack, LEVELS, Law, Policy, Pushback, Refusal, Signals,
    TIERS,
};
pub use scenario::{
    Autoscaler, Bursts, Cache, Check, Clients, Cohorts, Gateways, Key, Metric, Network, Reduced, Scenario,
    ScenarioError, Service, Step, Traffic, Workers, shipped,
};
pub use suite::{Progress, SUITES, SuiteOutcome, play, run, run_with, suite, suite_with};
pub use time::Nanos;
