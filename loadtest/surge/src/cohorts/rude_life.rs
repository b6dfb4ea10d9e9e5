//! The life of somebody who is not polite: as everybody's until the surge, and to the end of the run as the cohort's.

use std::sync::Arc;

use super::{
    Cohort, connect_and_idle, contact_scraper, half_open, multi_login, never_acks, rst_stream_flood,
    slow_reader, wrong_otp,
};
use crate::workload::{Life, World};

/// Lives until the run is over.
pub(crate) async fn live(mut life: Life, world: Arc<World>) {
    life.go_online(&world).await;
    tokio::select! {
        () = life.serve(&world) => return,
        () = world.crowd.begins() => {}
    }
    let index = life.user().index;
    life.inbox.reading.measured = false;
    match world.crowd.of(index) {
        Cohort::NeverAcks => never_acks::live(life, &world).await,
        Cohort::SlowReader => slow_reader::live(life, &world).await,
        Cohort::HalfOpen => half_open::live(life, &world).await,
        Cohort::MultiLogin => multi_login::live(life, &world).await,
        Cohort::ConnectAndIdle => beside(life, &world, Box::pin(connect_and_idle::act(&world))).await,
        Cohort::RstStreamFlood => beside(life, &world, Box::pin(rst_stream_flood::act(&world))).await,
        Cohort::WrongOtp => beside(life, &world, Box::pin(wrong_otp::act(&world, index))).await,
        Cohort::ContactScraper => {
            let identity = life.user().identity.clone();
            beside(life, &world, Box::pin(contact_scraper::act(&world, index, &identity))).await;
        }
        // Their manner is in how they write.
        Cohort::Polite
        | Cohort::NoJitter
        | Cohort::Fixed1s
        | Cohort::HotLoop
        | Cohort::IgnoresPushback
        | Cohort::NoDeadline
        | Cohort::Impatient
        | Cohort::ResendSameId
        | Cohort::Oversize => life.serve(&world).await,
    }
}

/// Does something beside taking the mail, which ends with the load.
async fn beside(mut life: Life, world: &Arc<World>, act: impl Future<Output = ()>) {
    tokio::join!(life.serve(world), act);
}
