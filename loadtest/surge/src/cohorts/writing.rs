//! How each cohort writes a message.

use spillway_client::{Client, Identity};
use tokio::time::Instant;

use super::{
    Cohort, again, fixed_1s, hot_loop, ignores_pushback, impatient, no_deadline, no_jitter, oversize,
    resend_same_id,
};
use crate::workload::{Letter, World, send};

/// Writes one planned message in the manner of its sender, and enters it under the cohort's own operation.
pub(crate) async fn write(
    world: &World,
    client: &Client,
    identity: &Identity,
    letter: Letter,
    planned: Instant,
) {
    let cohort = world.crowd.of(letter.from);
    macro_rules! habit {
        ($habit:expr) => {
            again::send(world, client, identity, letter, cohort, planned, $habit).await
        };
    }
    match cohort {
        Cohort::NoJitter => habit!(no_jitter::NoJitter),
        Cohort::Fixed1s => habit!(fixed_1s::Fixed1s),
        Cohort::HotLoop => habit!(hot_loop::HotLoop),
        Cohort::IgnoresPushback => habit!(ignores_pushback::IgnoresPushback),
        Cohort::NoDeadline => no_deadline::write(world, client, identity, letter, planned).await,
        Cohort::Impatient => habit!(impatient::Impatient),
        Cohort::ResendSameId => resend_same_id::write(world, client, identity, letter, planned).await,
        Cohort::Oversize => oversize::write(world, client, identity, letter, planned).await,
        // What is rude about them is not how they write.
        Cohort::Polite | Cohort::NeverAcks | Cohort::SlowReader => {
            let client = client.metered(world.crowd.tally(cohort).meter());
            send(world, &client, identity, letter, cohort.operation(), planned).await;
        }
        Cohort::HalfOpen
        | Cohort::MultiLogin
        | Cohort::ConnectAndIdle
        | Cohort::RstStreamFlood
        | Cohort::WrongOtp
        | Cohort::ContactScraper => {}
    }
}
