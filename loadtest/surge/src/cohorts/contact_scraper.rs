//! Asks about every number there is.

use spillway_api::v1;
use spillway_client::{CallError, Identity};
use tokio::time::Instant;
use tonic::Request;

use super::again::PATIENCE;
use super::{About, Cohort};
use crate::stats::{Operation, Outcome};
use crate::workload::{World, outcome};

pub(super) const ABOUT: About = About {
    name: "contact-scraper",
    operation: Operation("contact_scraper_discover"),
    verb: "discover",
    summary: "looks up address books of the largest size, one after the other",
    does: "Looks up a thousand numbers at a time (the most that one call may have) that it has not asked about before, walking through the \
           numbering plan, and goes on at once whatever the answer is.",
    who: "Whoever wants to know who uses the service: in 2021 researchers asked about 10 % of all mobile numbers of the USA at WhatsApp and all of \
          them at Signal, with few accounts.",
    source: "Hagen et al., All the Numbers are US (NDSS 2021)",
    ceiling: "10 look-ups (10,000 numbers) a second of the whole cohort, one at a time of a member",
};

/// Look-ups, of the whole cohort.
pub(super) const PER_S_MAX: f64 = 10.0;
/// The most that one call may have.
const NUMBERS: u64 = 1_000;
/// From here on nobody signs up; address books of the polite are drawn from the same hundred million.
const NOBODY_FROM: u64 = 200_000_000;
/// Of one member's walk.
const WALK: u64 = 5_000;

/// Goes on until the load is over.
pub(super) async fn act(world: &World, index: u32, identity: &Identity) {
    let cohort = Cohort::ContactScraper;
    let Ok(client) = world.connect_lazily() else { return };
    for round in 0.. {
        if world.unless_closing(world.crowd.turn(cohort)).await.is_none() {
            return;
        }
        // The first thousand are those who may be there.
        let from = if round == 0 { 0 } else { NOBODY_FROM + u64::from(index) * WALK + round * NUMBERS };
        let numbers = (from..from + NUMBERS).map(|index| world.population.person(index).number).collect();
        let mut request = Request::new(v1::DiscoverRequest { numbers });
        request.set_timeout(PATIENCE);
        identity.authorize(request.metadata_mut());
        world.crowd.tally(cohort).attempt(0);
        let timer = world.stats().start(ABOUT.operation, Instant::now());
        timer.finish(match world.unless_closing(client.contacts().discover(request)).await {
            Some(Ok(_)) => Outcome::Ok,
            Some(Err(status)) => outcome::of(&CallError::from(status)),
            None => Outcome::StillWaiting,
        });
    }
}
