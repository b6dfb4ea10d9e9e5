//! `surge`, an open-loop, stateful load tool for messaging services.
//!
//! A workload ([`workload`]) asks a [`schedule`] when work is due, is woken by the [`pacer`], times each operation with
//! [`stats`], writes every message into the [`ledger`], and at the end has the gates of [`slo`], and those that a user wrote
//! ([`gates`]), judge what was measured. The [`journal`] keeps it second by second, so that a run that is killed can be read back
//! ([`recording`], [`retold`]; what both ways have in common is in `outcome`); [`summary`], [`timeline`], [`run_folder`], [`outputs`] and [`report`] keep the result; [`progress`] shows it while it
//! happens; [`faults`] harm the service on purpose; [`mod@compare`] and [`mod@search`] make several runs one answer; [`observe`] reads what the server and this process cost, [`admin`] what the server says of itself. [`room`] keeps what people saw who
//! waited for their turn; [`cohorts`] are those who do not behave, and [`mod@harm`] what they do to others. [`workers`] play one run on several machines. [`run`] puts it together. Only [`workload`],
//! [`cohorts`], [`codes`] and [`population`] know Spillway's API; [`peer`] knows those of others.
//!
//! Two rules hold throughout. Latency is counted from the planned start, so a stalled server cannot slow down the
//! questions asked of it. A message is lost only when its sender was told that it was safe.

pub mod admin;
mod autoscale;
pub mod carrier;
pub mod catalog;
pub mod cli;
pub mod codes;
pub mod cohorts;
pub mod compare;
pub mod curve;
pub mod events;
pub mod faults;
#[cfg(test)]
mod features;
pub mod friends;
pub mod gates;
pub mod harm;
pub mod journal;
pub mod language;
pub mod ledger;
pub mod load;
pub mod manifest;
mod metrics;
pub mod observe;
pub mod offer;
mod outcome;
pub mod outputs;
pub mod pacer;
pub mod peer;
pub mod plan;
pub mod population;
pub mod profile;
pub mod progress;
pub mod recording;
pub mod report;
pub mod retold;
pub mod room;
pub mod room_million;
pub mod run;
pub mod run_folder;
pub mod schedule;
pub mod search;
pub mod server;
pub mod simulate;
pub mod slo;
pub mod stats;
pub mod summary;
pub mod target;
pub mod timeline;
pub mod trace;
pub mod utc;
pub mod workers;
pub mod workload;
