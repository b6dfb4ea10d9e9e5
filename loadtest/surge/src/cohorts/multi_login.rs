//! One identity in two places.

use std::sync::Arc;
use std::time::Duration;

use super::{About, Cohort};
use crate::stats::Operation;
use crate::workload::{Life, Stage, World};

pub(super) const ABOUT: About = About {
    name: "multi-login",
    operation: Operation("multi_login_login"),
    verb: "login",
    summary: "uses one identity in two places, which replace each other's session for ever",
    does: "Opens the session of one device from two connections. The service keeps the newest and tells the older one; each opens its session \
           again within 200 ms of being replaced. It writes nothing, and takes its mail wherever it comes: with the end of the load one of them \
           is left, and everything must arrive.",
    who: "A backup that was restored on a second phone, an app that runs twice, a tab that was duplicated. Signal's server closes the older \
          WebSocket with a code of its own (4409).",
    source: "Signal-Server (WebSocket close code 4409)",
    ceiling: "two connections of a member, 200 logins a second of the whole cohort",
};

/// Logins, of the whole cohort.
pub(super) const PER_S_MAX: f64 = 200.0;
const REOPENS_WITHIN: Duration = Duration::from_millis(200);

pub(super) async fn live(mut life: Life, world: &Arc<World>) {
    life.inbox.reading.opens_as(Cohort::MultiLogin, REOPENS_WITHIN);
    if let Ok(client) = world.connect_lazily() {
        let mut twin = life.inbox.twin(client);
        let fight = async {
            loop {
                twin.next(world).await;
            }
        };
        tokio::select! {
            () = life.serve(world) => return,
            () = world.reached(Stage::Closing) => {}
            () = fight => {}
        }
    }
    life.serve(world).await;
}
