//! Waits for ever.

use std::time::Duration;

use spillway_client::{CallError, Client, Identity};
use tokio::time::Instant;

use super::again::{self, Habit};
use super::{About, Cohort};
use crate::stats::{Operation, Outcome};
use crate::workload::{Letter, World};

pub(super) const ABOUT: About = About {
    name: "no-deadline",
    operation: Operation("no_deadline_send"),
    verb: "send",
    summary: "sets no deadline, and waits for ever",
    does: "Sends once, without a deadline, and waits for whatever comes, to the end of the run.",
    who: "gRPC clients as they are out of the box: without a deadline a call waits for ever, and the server is not told when to stop working \
          for it.",
    source: "grpc.io, Deadlines (\"By default, gRPC does not set a deadline\")",
    ceiling: "1,024 calls of the whole cohort that wait at a time; what is more is not sent, and fails as `too_many_waiting`",
};

/// Calls without an answer, of the whole cohort.
pub(super) const WAITING_MAX: usize = 1_024;

struct NoDeadline;

impl Habit for NoDeadline {
    fn deadline(&self) -> Option<Duration> {
        None
    }

    fn pause(&mut self, _: u32, _: &CallError) -> Option<Duration> {
        None
    }

    fn patience(&self) -> Option<Duration> {
        None
    }
}

pub(super) async fn write(
    world: &World,
    client: &Client,
    identity: &Identity,
    letter: Letter,
    planned: Instant,
) {
    let Ok(_waits) = world.crowd.waiting().try_acquire() else {
        let now = Instant::now();
        world.stats().record(ABOUT.operation, planned, now, now, Outcome::Failed("too_many_waiting"));
        return;
    };
    again::send(world, client, identity, letter, Cohort::NoDeadline, planned, NoDeadline).await;
}
