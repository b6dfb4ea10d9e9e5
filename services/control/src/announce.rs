use std::time::Duration;

use prost::Message;
use spillway_api::internal::v1::ControlState;
use spillway_bus::{BusError, Subject};
use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::tenure::{Lapsed, Tenure};
use crate::{Control, Shared, grpc};

const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnounceError {
    #[error("not the holder any more")]
    Lapsed(#[from] Lapsed),
    #[error("the bus did not take it in time")]
    TimedOut,
    #[error("the bus did not take it")]
    Bus(#[from] BusError),
}

impl Control {
    /// Once a second, and at once when the lease has been taken.
    pub(crate) fn announce(&self, tasks: &Tasks) {
        let shared = self.shared.clone();
        let cancelled = tasks.cancelled();
        tasks.spawn("control announcements", async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tokio::pin!(cancelled);
            loop {
                tokio::select! {
                    // An acquisition before a tick that is due too, or both would speak.
                    biased;
                    () = &mut cancelled => break,
                    () = shared.guard.acquired() => ticks.reset(),
                    _ = ticks.tick() => {}
                }
                shared.tick().await;
            }
            shared.metrics.set_holder(None);
        });
    }
}

impl Shared {
    async fn tick(&self) {
        let now = Instant::now();
        let tenure = self.guard.tenure(now);
        self.metrics.set_holder(tenure);
        if tenure.is_none() {
            self.metrics.set_room(None);
        }
        let ratio = |total: &_| self.demand_of(total, now).ok().map(|demand| demand.ratio);
        self.metrics.set_fleet(&self.fleet.totals(now), ratio);
        self.metrics.set_store(self.store_pressure(now));
        self.metrics.set_clocks(&self.fleet.clocks(now));
        if let Some(tenure) = tenure {
            let outcome = self.publish_state(tenure).await;
            if let Err(error) = &outcome {
                // Once a second while the bus is away, so no louder than this; the counter is what to watch.
                tracing::debug!(error = %Chain(error), "control state not published");
            }
            self.metrics.count_state(outcome.is_ok());
        }
    }

    fn store_pressure(&self, now: Instant) -> Option<f64> {
        self.fleet.store(now).map(|load| self.room.store_pressure(&load))
    }

    pub(crate) async fn publish_state(&self, tenure: Tenure) -> Result<(), AnnounceError> {
        let totals = self.fleet.totals(Instant::now());
        let (codes, places) = self.fleet.codes(Instant::now());
        let pressure = self.store_pressure(Instant::now());
        let state = ControlState {
            token: tenure.token().0,
            holder_process_id: self.process.0.to_vec().into(),
            roles: grpc::role_totals(&totals),
            sent_at_us: self.clock.now().as_micros(),
            room: self.room.tick(tenure.token(), codes, pressure, Instant::now(), self.clock.now()),
            places,
        };
        self.metrics.set_room(state.room.as_ref());
        self.metrics.count_estimates(self.room.outcomes());
        let hint = state.encode_to_vec().into();
        tenure.check(Instant::now())?;
        match timeout_at(tenure.valid_until(), self.bus.publish(Subject::Control, hint)).await {
            Ok(published) => Ok(published?),
            Err(_elapsed) => Err(AnnounceError::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spillway_api::internal::v1::{LoadBeacon, Role};
    use spillway_bus::{Bus, Event, LocalBus, Subscription};
    use tokio::time::timeout;

    use super::*;
    use crate::Config;
    use crate::testing::{MemoryLeases, beacon, holder, node};

    const BOUND: Duration = Duration::from_secs(10);

    async fn next(states: &mut dyn Subscription) -> ControlState {
        let event = timeout(BOUND, states.next()).await.expect("a state comes");
        let Some(Event::Hint(hint)) = event else { panic!("expected a hint, got {event:?}") };
        ControlState::decode(hint).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_holder_alone_tells_the_fleet_how_large_it_is() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let mut states = bus.subscribe(Subject::Control).await.unwrap();
        let first = node(1, Config::default(), leases.clone(), &bus);
        // At once, and with every role, also those that nobody has.
        let start = Instant::now();
        let state = next(&mut *states).await;
        assert!(start.elapsed() < Duration::from_millis(100));
        assert_eq!((state.token, &state.holder_process_id[..], state.roles.len()), (1, &holder(1).0[..], 5));

        let second = node(2, Config::default(), leases.clone(), &bus);
        let load: LoadBeacon = beacon(7, "gateway-0", &[Role::Gateway], [1, 2, 3, 10]);
        bus.publish(Subject::Load, load.encode_to_vec().into()).await.unwrap();
        for _ in 0..3 {
            let state = next(&mut *states).await;
            assert_eq!(state.token, 1, "the other one is silent");
            let gateways = state.roles.iter().find(|total| total.role() == Role::Gateway).unwrap();
            assert_eq!((gateways.processes, gateways.demand, gateways.capacity_seats), (1, 6, 10));
        }
        assert!(start.elapsed() > Duration::from_millis(2_500), "once a second");

        first.tasks.close_and_wait(BOUND).await.unwrap();
        let state = next(&mut *states).await;
        assert_eq!((state.token, &state.holder_process_id[..]), (2, &holder(2).0[..]));
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_steps_down_when_it_hears_a_later_one() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let first = node(1, Config::default(), leases, &bus);
        let guard = &first.control.shared.guard;
        timeout(BOUND, async {
            while guard.tenure(Instant::now()).is_none() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        let later = ControlState { token: 9, ..ControlState::default() };
        bus.publish(Subject::Control, later.encode_to_vec().into()).await.unwrap();
        timeout(BOUND, async {
            while guard.tenure(Instant::now()).is_some() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        first.tasks.close_and_wait(BOUND).await.unwrap();
    }
}
