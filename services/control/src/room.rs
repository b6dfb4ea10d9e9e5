//! The waiting room, as the holder of the lease keeps it: lends numbers, moves the frontier, forecasts.
//!
//! A process that takes the lease first reserves numbers in the store ([`register`]); from then on it acts. What gateways report is
//! kept until the next tick. Whoever does not hold the lease remembers the frontier that the holder publishes, so that it can go on from there.

mod opening;
pub(crate) mod order;
pub(crate) mod register;
mod wire;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spillway_api::internal::v1::{RoomBound, RoomState};
use spillway_rpc::{frontier_of, outlook_of, room_state};
use spillway_store::leases::{FencingToken, HolderId};
use spillway_types::Timestamp;
use spillway_waiting_room::{
    Blocks, Claimed, Forecast, Frontier, Learnt, Lent, Limits, Mark, Mode, Operator, Outcomes, Pool,
    Presence, Steering, SteeringConfig, Tick,
};
use tokio::time::Instant;

use crate::codes::Bounds;
use crate::config::RoomConfig;
use crate::store_room::{StoreLoad, StoreRoom};
use opening::Opening;
pub use order::{NoRoomOrder, RoomOrder};
use register::Stored;
pub(crate) use wire::{Report, ReportError, lent};

/// A gateway that has not reported for so long has no say.
const GATEWAY_SILENCE: Duration = Duration::from_secs(5);

/// The room in one process of the role.
#[derive(Debug)]
pub(crate) struct Room {
    config: RoomConfig,
    gateways_max: usize,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last frontier that was published, by whomever.
    last: Frontier,
    /// What was learnt for estimates, of the same publication.
    learnt: Option<Learnt>,
    /// The operator's. Known to all of the role, for whoever acts next.
    order: Option<RoomOrder>,
    acting: Option<Acting>,
    /// Of all tenures of this process.
    outcomes: Outcomes,
    /// What the last rate was bounded by.
    bound: RoomBound,
}

/// What the holder has.
#[derive(Debug)]
struct Acting {
    token: FencingToken,
    blocks: Blocks,
    steering: Steering,
    opening: Opening,
    forecast: Forecast,
    /// Of these estimates the outcome is counted already.
    counted: Outcomes,
    presence: Presence,
    generation: u64,
    gateways: HashMap<HolderId, Gateway>,
    store: StoreRoom,
    issued: u64,
    before: Before,
    abandoned: Vec<RangeInclusive<u64>>,
    claimed: Vec<Claimed>,
}

/// The numbers of earlier holders.
#[derive(Clone, Copy, Debug)]
struct Before {
    /// The mark that was found: none above it was lent.
    mark: u64,
    /// Of those up to the mark, the highest that somebody may have.
    issued: u64,
}

/// What one gateway told last, and what it was answered.
#[derive(Clone, Copy, Debug)]
struct Gateway {
    at: Duration,
    serial: u64,
    lent: Option<Lent>,
    refusing: bool,
    spare: Option<f64>,
}

/// Why a report is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("this process does not hold the lease, or has not reserved numbers yet")]
    NotActing,
    #[error("no numbers are reserved")]
    NotReserved,
    #[error("more gateways than are remembered")]
    TooMany,
}

impl Room {
    pub(crate) fn new(config: RoomConfig, gateways_max: usize) -> Self {
        let state = State {
            last: Frontier::NONE,
            learnt: None,
            order: None,
            acting: None,
            outcomes: Outcomes::default(),
            bound: RoomBound::Unspecified,
        };
        Self { config, gateways_max, start: Instant::now(), state: Mutex::new(state) }
    }

    /// Takes up what a holder has published.
    pub(crate) fn heard(&self, token: FencingToken, room: &RoomState) {
        let frontier = frontier_of(token.0, Timestamp::ZERO, room);
        let mut state = self.state();
        if (frontier.epoch, frontier.number) > (state.last.epoch, state.last.number) {
            state.last = frontier;
            state.learnt = (frontier.f > 0).then(|| outlook_of(room.clone()).learnt());
        }
    }

    /// From the next tick on.
    pub(crate) fn order(&self, order: RoomOrder) {
        let mut state = self.state();
        state.order = Some(order);
        if let Some(acting) = &mut state.acting {
            acting.steering.steer(order.operator());
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let state = self.state();
        let order = state.order.unwrap_or_default();
        match &state.acting {
            Some(_) => {
                let Frontier { f, issued, rate, mode, .. } = state.last;
                let bound = wire::bound_text(state.bound);
                format!(
                    "{mode:?}, ordered {order}: {f} of {issued} called, room for {rate:.1} a second: {bound}"
                )
            }
            None => format!("ordered {order}; another process acts"),
        }
    }

    /// 1 is what is too much for more sign-ups.
    pub(crate) fn store_pressure(&self, load: &StoreLoad) -> f64 {
        load.pressure(self.config.store_busy)
    }

    /// The token under which this process acts for the room.
    pub(crate) fn acting(&self) -> Option<FencingToken> {
        self.state().acting.as_ref().map(|acting| acting.token)
    }

    /// Begins to act, with numbers that have been reserved under `token`; `found` is what was stored before.
    pub(crate) fn begin(
        &self,
        token: FencingToken,
        found: Stored,
        mark: Mark,
        now: Instant,
        clock: Timestamp,
    ) {
        let now = self.since_start(now);
        let mut state = self.state();
        let last = Frontier {
            f: state.last.f.max(found.frontier),
            issued: state.last.issued.max(found.issued),
            pool: found.pool.or(state.last.pool),
            ..state.last
        };
        state.last = last;
        let mut blocks = Blocks::new(token.0, found.mark, now);
        blocks.stored(mark);
        let mut steering = Steering::resume(SteeringConfig::default(), token.0, &last);
        if let Some(order) = state.order {
            steering.steer(order.operator());
        }
        let mut opening = Opening::new(found.pool);
        // Before the first number is lent.
        opening.step(self.config.opening(), &mut steering, &blocks, now, clock);
        state.acting = Some(Acting {
            token,
            blocks,
            steering,
            opening,
            forecast: Forecast::resume(self.config.polls_max, state.learnt),
            counted: Outcomes::default(),
            presence: Presence::default(),
            generation: 0,
            gateways: HashMap::new(),
            store: StoreRoom::default(),
            issued: last.issued,
            before: Before { mark: found.mark, issued: last.issued.min(found.mark) },
            abandoned: Vec::new(),
            claimed: Vec::new(),
        });
    }

    pub(crate) fn cease(&self) {
        self.state().acting = None;
    }

    /// What is to be stored, and the mark in it if it is one that more can be lent for.
    pub(crate) fn to_store(&self) -> Option<(Stored, Option<Mark>)> {
        let state = self.state();
        let acting = state.acting.as_ref()?;
        let wanted = acting.blocks.wanted();
        let mark = wanted.map_or(acting.blocks.mark(), |mark| mark.highest);
        let (frontier, issued) = (state.last.f, acting.issued);
        Some((Stored { mark, frontier, issued, pool: None }, wanted))
    }

    /// A lottery that is not in the store as it is here.
    pub(crate) fn pool_to_store(&self) -> Option<Pool> {
        self.state().acting.as_ref().and_then(|acting| acting.opening.to_store(&acting.steering))
    }

    pub(crate) fn pool_stored(&self, pool: Pool) {
        if let Some(acting) = &mut self.state().acting {
            acting.opening.stored(pool);
        }
    }

    pub(crate) fn stored(&self, mark: Mark) {
        if let Some(acting) = &mut self.state().acting {
            acting.blocks.stored(mark);
        }
    }

    /// A gateway's report; answers the numbers that it may give out.
    pub(crate) fn report(&self, report: Report, now: Instant) -> Result<Option<Lent>, NotTaken> {
        let now = self.since_start(now);
        let mut state = self.state();
        let acting = state.acting.as_mut().ok_or(NotTaken::NotActing)?;
        let known = acting.gateways.get(&report.process);
        if let Some(known) = known.filter(|known| known.serial == report.serial) {
            return Ok(known.lent);
        }
        if known.is_none() && acting.gateways.len() >= self.gateways_max {
            return Err(NotTaken::TooMany);
        }
        // Before anything is counted: a report that is refused comes again as it was.
        let lent = match report.wanted {
            0 => None,
            wanted => Some(acting.blocks.lend(Some(wanted)).map_err(|_| NotTaken::NotReserved)?),
        };
        acting.issued = acting.issued.max(report.issued);
        acting.before.learn(report.issued, &report.abandoned);
        acting.abandoned.extend(report.abandoned);
        acting.claimed.extend(report.claimed);
        for (block, bits) in &report.presence {
            acting.presence.merge(*block, bits);
        }
        let gateway =
            Gateway { at: now, serial: report.serial, lent, refusing: report.refusing, spare: report.spare };
        acting.gateways.insert(report.process, gateway);
        Ok(lent)
    }

    /// What is published now, if this process acts under `token`. `store_pressure`: 1 is too much; `None` if nobody tells.
    pub(crate) fn tick(
        &self,
        token: FencingToken,
        codes: Bounds,
        store_pressure: Option<f64>,
        now: Instant,
        clock: Timestamp,
    ) -> Option<RoomState> {
        let now = self.since_start(now);
        let mut state = self.state();
        let acting = state.acting.as_mut().filter(|acting| acting.token == token)?;
        acting.gateways.retain(|_, gateway| now.saturating_sub(gateway.at) < GATEWAY_SILENCE);
        let claims = acting.claimed.iter().map(|claimed| claimed.count).sum();
        let store = acting.store.tick(claims, store_pressure, now);
        let limits = Limits { store, ..acting.limits(self.config.sign_ups_per_second, codes) };
        let refusing = acting.gateways.values().any(|gateway| gateway.refusing);
        acting.abandoned.extend(acting.blocks.skipped(now, acting.before.issued));
        let (abandoned, claimed) =
            (std::mem::take(&mut acting.abandoned), std::mem::take(&mut acting.claimed));
        let opens_at = self.config.opening();
        acting.opening.step(opens_at, &mut acting.steering, &acting.blocks, now, clock);
        let frontier = acting.steering.tick(&Tick {
            now,
            at: clock,
            limits: &limits,
            refusing,
            issued: acting.issued,
            abandoned: &abandoned,
            claimed: &claimed,
        });
        let crowd = acting.steering.crowd(&acting.presence, acting.before.nobody().as_ref());
        // The first number above the mark that was found is no rush of arrivals.
        let counted = Frontier { issued: frontier.issued.max(acting.before.mark), ..frontier };
        let outlook = acting.forecast.observe(now, &counted, crowd);
        if acting.generation != outlook.generation {
            // Its bits are of no use to anybody else.
            drop(acting.presence.turn(frontier.closed(), frontier.issued));
            acting.generation = outlook.generation;
        }
        let polls_per_gateway = self.config.polls_max / acting.gateways.len().max(1) as f64;
        let bound = match acting.steering.operator() {
            Operator::Rate(_) | Operator::Open => RoomBound::Operator,
            Operator::Auto | Operator::Freeze => wire::bound(limits.least().0),
        };
        let opens_at = opens_at.filter(|_| frontier.mode == Mode::NotOpen);
        let opens_at_us = opens_at.map_or(0, Timestamp::as_micros);
        let outcomes = acting.forecast.outcomes();
        let before = std::mem::replace(&mut acting.counted, outcomes);
        state.outcomes.add(outcomes, before);
        (state.last, state.bound) = (frontier, bound);
        state.learnt = (frontier.f > 0).then(|| outlook.learnt());
        let room = room_state(&frontier, &outlook);
        Some(RoomState { polls_per_gateway, opens_at_us, bound: bound.into(), ..room })
    }

    /// What became of estimates while this process acted.
    pub(crate) fn outcomes(&self) -> Outcomes {
        self.state().outcomes
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between leaves sums that are a second old, and no half-made ones.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Before {
    /// From a report. A number of this tenure says nothing of those before. The rest of a block of before does, of a gateway that has given out or
    /// seen a number of this tenure since.
    fn learn(&mut self, issued: u64, abandoned: &[RangeInclusive<u64>]) {
        let given = abandoned
            .iter()
            .filter(|rest| *rest.end() <= self.mark)
            .map(|rest| rest.start().saturating_sub(1));
        let known = given.chain((issued <= self.mark).then_some(issued)).max();
        self.issued = self.issued.max(known.unwrap_or(0));
    }

    /// Those that nobody has.
    fn nobody(self) -> Option<RangeInclusive<u64>> {
        (self.issued < self.mark).then(|| self.issued + 1..=self.mark)
    }
}

impl Acting {
    fn limits(&self, sign_ups_per_second: Option<f64>, codes: Bounds) -> Limits {
        // A gateway without a bound has room for all.
        let spare = self.gateways.values().map(|gateway| gateway.spare.unwrap_or(f64::INFINITY)).sum::<f64>();
        Limits {
            setting: sign_ups_per_second.unwrap_or(f64::INFINITY),
            provider: codes.providers,
            budget: codes.budget,
            countries: codes.countries,
            gateways: if self.gateways.is_empty() { f64::INFINITY } else { spare },
            ..Limits::NONE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message as _;
    use spillway_api::internal::v1::control_client::ControlClient;
    use spillway_api::internal::v1::{
        ClaimCount, ControlState, NumberRange, ReportRoomRequest, StoreWrites, VerificationCapacity,
    };
    use spillway_bus::{Bus as _, Event, LocalBus, Subject};
    use spillway_rpc::{Channel, ServerMetrics, in_process};
    use spillway_types::{Clock as _, TestClock};
    use tokio::time::{sleep, timeout};
    use tonic::Status;
    use tonic::service::Routes;

    use super::*;
    use crate::Config;
    use crate::testing::{MemoryLeases, Node, Sender, Weather, node};

    const BOUND: Duration = Duration::from_secs(15);

    fn client(node: &Node) -> ControlClient<Channel> {
        let routes = Routes::new(node.control.clone().into_server());
        ControlClient::new(in_process(routes, &ServerMetrics::new(&prometheus::Registry::new())))
    }

    async fn report(node: &Node, report: ReportRoomRequest) -> Result<Option<(u64, u32)>, Status> {
        let process_id = vec![9; 16].into();
        let answer = client(node).report_room(ReportRoomRequest { process_id, ..report }).await?;
        Ok(answer.into_inner().lent.map(|lent| (lent.first, lent.count)))
    }

    fn wanted(serial: u64, wanted: u32) -> ReportRoomRequest {
        ReportRoomRequest { serial, wanted, ..ReportRoomRequest::default() }
    }

    async fn acting(node: &Node) {
        timeout(BOUND, async {
            while node.control.shared.room.acting().is_none() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_are_lent_once_also_over_a_change_of_holder() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let first = node(1, Config::default(), leases.clone(), &bus);
        acting(&first).await;
        let second = node(2, Config::default(), leases.clone(), &bus);
        assert!(report(&second, wanted(1, 5)).await.is_err(), "it does not hold the lease");
        assert_eq!(report(&first, wanted(1, 5)).await.unwrap(), Some((1, 5)));
        assert_eq!(report(&first, wanted(1, 5)).await.unwrap(), Some((1, 5)), "the answer was lost");
        assert_eq!(report(&first, wanted(2, 3)).await.unwrap(), Some((6, 3)));
        assert_eq!(report(&first, wanted(3, 0)).await.unwrap(), None);

        first.tasks.close_and_wait(BOUND).await.unwrap();
        assert!(report(&first, wanted(4, 1)).await.is_err(), "it has given the lease back");
        acting(&second).await;
        let (next, _) = report(&second, wanted(4, 1)).await.unwrap().unwrap();
        assert!(next > 8, "{next}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lent_that_the_store_does_not_know_of() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let first = node(1, Config::default(), leases.clone(), &bus);
        acting(&first).await;
        let mut highest = 0;
        let mut lend = async |node: &Node, serial| {
            let lent = report(node, wanted(serial, 1_024)).await?;
            let (from, count) = lent.unwrap();
            assert!(from > highest, "{from} was lent before");
            highest = from + u64::from(count) - 1;
            Ok::<u64, Status>(highest)
        };
        // Answers are lost, and so it is not known whether more has been reserved.
        leases.weather(Weather::Mute);
        let mut serial = 0;
        loop {
            serial += 1;
            match lend(&first, serial).await {
                Ok(highest) => assert!(highest < 1_000_000, "numbers without end"),
                Err(_) => break,
            }
        }
        assert!(lend(&first, serial).await.is_err(), "a repetition is refused too");
        leases.weather(Weather::Fine);
        sleep(Duration::from_secs(1)).await;
        lend(&first, serial).await.unwrap();
        // A new process, as after a loss of all of them.
        first.tasks.close_and_wait(BOUND).await.unwrap();
        let second = node(2, Config::default(), leases, &bus);
        acting(&second).await;
        lend(&second, 1).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_frontier_is_published_and_outlives_everybody() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let mut states = bus.subscribe(Subject::Control).await.unwrap();
        let room = RoomConfig { sign_ups_per_second: Some(10.0), ..RoomConfig::default() };
        let config = Config { room, ..Config::default() };
        let first = node(1, config.clone(), leases.clone(), &bus);
        let _codes = Sender::of(VerificationCapacity::default(), &bus);
        acting(&first).await;
        report(&first, ReportRoomRequest { issued: 1_000, ..wanted(1, 1_024) }).await.unwrap();
        let mut last = RoomState::default();
        for _ in 0..20 {
            last = next(&mut *states).await.room.unwrap_or(last);
        }
        assert_eq!(last.issued, 1_000);
        // 10 a second of whom seven tenths are expected to come.
        assert!((200..=400).contains(&last.frontier), "{last:?}");
        first.tasks.close_and_wait(BOUND).await.unwrap();

        let second = node(2, config, leases, &Arc::new(LocalBus::new()));
        acting(&second).await;
        let room = &second.control.shared.room;
        let stored = room.to_store().unwrap().0;
        assert_eq!(stored.issued, 1_000);
        // What has been called since it was stored is walked again.
        assert!((150..=last.frontier).contains(&stored.frontier), "{stored:?} after {last:?}");
    }

    /// In a surge somebody comes before the new holder has settled.
    #[tokio::test(start_paused = true)]
    async fn numbers_that_nobody_has_are_skipped_also_when_people_come_at_once() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let room = RoomConfig { sign_ups_per_second: Some(10.0), ..RoomConfig::default() };
        let config = Config { room, ..Config::default() };
        let first = node(1, config.clone(), leases.clone(), &bus);
        let _codes = Sender::of(VerificationCapacity::default(), &bus);
        acting(&first).await;
        report(&first, wanted(1, 5)).await.unwrap();
        report(&first, ReportRoomRequest { issued: 5, ..wanted(2, 0) }).await.unwrap();
        first.tasks.close_and_wait(BOUND).await.unwrap();

        let second = node(2, config, leases, &bus);
        acting(&second).await;
        let (new, _) = report(&second, wanted(3, 1)).await.unwrap().unwrap();
        assert!(new > 10_000, "{new}: nothing to skip");
        report(&second, ReportRoomRequest { issued: new, ..wanted(4, 0) }).await.unwrap();
        let mut states = bus.subscribe(Subject::Control).await.unwrap();
        let mut last = next(&mut *states).await.room.unwrap();
        // It has not settled, and estimates leave them out all the same.
        assert!(last.frontier < new && last.issued == new, "{last:?}");
        let total = last.knot_counts.last().copied().unwrap();
        assert!((1.0..=6.0).contains(&total), "{total}: {last:?}");
        for _ in 0..30 {
            last = next(&mut *states).await.room.unwrap_or(last);
        }
        // At ten a second the numbers between would take hours.
        assert_eq!(last.frontier, new, "{last:?}");
    }

    #[test]
    fn numbers_of_this_tenure_do_not_hide_those_of_before() {
        let mut before = Before { mark: 1_000, issued: 100 };
        before.learn(1_001, &[]);
        assert_eq!(before.nobody(), Some(101..=1_000));
        before.learn(200, &[]);
        assert_eq!(before.nobody(), Some(201..=1_000));
        // A block that both tenures' numbers came after: it was given out up to 305.
        before.learn(1_400, &[306..=400, 1_301..=1_350]);
        assert_eq!(before.nobody(), Some(306..=1_000));
        before.learn(1_000, &[]);
        assert_eq!(before.nobody(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn existing_users_who_are_refused_freeze_it() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let mut states = bus.subscribe(Subject::Control).await.unwrap();
        let room = RoomConfig { sign_ups_per_second: Some(10.0), ..RoomConfig::default() };
        let node = node(1, Config { room, ..Config::default() }, leases, &bus);
        let _codes = Sender::of(VerificationCapacity::default(), &bus);
        acting(&node).await;
        let mut frontiers = Vec::new();
        for serial in 1..=30 {
            let refusing = serial > 5;
            let told = ReportRoomRequest { issued: 10_000, refusing, ..wanted(serial, 0) };
            report(&node, told).await.unwrap();
            frontiers.push(next(&mut *states).await.room.map_or(0, |room| room.frontier));
        }
        assert!(frontiers[8] > frontiers[4], "not for what lasts a moment: {frontiers:?}");
        assert_eq!(frontiers[15], frontiers[29], "{frontiers:?}");
    }

    /// The last state of the next `seconds`.
    async fn state_after(states: &mut dyn spillway_bus::Subscription, seconds: usize) -> RoomState {
        let mut last = RoomState::default();
        for _ in 0..seconds {
            last = next(states).await.room.unwrap_or(last);
        }
        last
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_the_codes_that_can_be_sent_and_says_what_bounds_it() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let mut states = bus.subscribe(Subject::Control).await.unwrap();
        let node = node(1, Config::default(), leases, &bus);
        acting(&node).await;
        let mut told = async |codes: Option<VerificationCapacity>, seconds| {
            let _sender = codes.map(|codes| Sender::of(codes, &bus));
            let state = state_after(&mut *states, seconds).await;
            (state.rate, state.bound(), node.control.room_text())
        };
        let capacity = |codes, paid| {
            Some(VerificationCapacity {
                codes_per_second: codes,
                paid_per_second: paid,
                ..VerificationCapacity::default()
            })
        };
        let (rate, bound, text) = told(None, 3).await;
        assert_eq!((rate, bound), (0.0, RoomBound::Provider), "nobody has told that codes can be sent");
        assert!(text.ends_with("room for 0.0 a second: providers take no more codes"), "{text}");
        let (rate, bound, _) = told(capacity(None, None), 3).await;
        assert!(rate > 1_000.0 && bound == RoomBound::Unlimited, "{rate} {bound:?}");
        let (rate, bound, _) = told(capacity(Some(100.0), Some(200.0)), 3).await;
        assert_eq!((rate, bound), (100.0, RoomBound::Provider));
        let (rate, bound, _) = told(capacity(Some(10.0), Some(200.0)), 2).await;
        assert_eq!((rate, bound), (10.0, RoomBound::Provider), "within two seconds");
        let (rate, bound, text) = told(capacity(Some(100.0), Some(0.0)), 2).await;
        assert_eq!((rate, bound), (0.0, RoomBound::Budget));
        assert!(text.ends_with("the budget pays for no more codes"), "{text}");
        let (rate, _, _) = told(capacity(Some(100.0), None), 2).await;
        assert_eq!(rate, 100.0);
        let (rate, bound, _) = told(None, 7).await;
        assert_eq!((rate, bound), (0.0, RoomBound::Provider), "it has not been heard of for five seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn it_gives_way_when_the_store_is_slow_and_says_so() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let mut states = bus.subscribe(Subject::Control).await.unwrap();
        let node = node(1, Config::default(), leases, &bus);
        acting(&node).await;
        let _codes = Sender::of(VerificationCapacity::default(), &bus);
        let mut serial = 0;
        let mut told = async |seconds_each: f64, seconds: usize| {
            let writes =
                StoreWrites { finished: 1_000, seconds: 1_000.0 * seconds_each, ..Default::default() };
            let _store = Sender::of_store(writes, &bus);
            let mut last = RoomState::default();
            for _ in 0..seconds {
                serial += 1;
                let claimed = vec![ClaimCount { publication: 1, count: 40 }];
                let told = ReportRoomRequest { issued: 100_000, claimed, ..wanted(serial, 0) };
                report(&node, told).await.unwrap();
                last = next(&mut *states).await.room.unwrap_or(last);
            }
            (last.rate, last.bound(), node.control.room_text())
        };
        let (rate, bound, _) = told(0.01, 10).await;
        assert!(rate > 1_000.0 && bound == RoomBound::Unlimited, "{rate} {bound:?}");
        let (rate, bound, text) = told(0.5, 30).await;
        assert!((15.0..30.0).contains(&rate) && bound == RoomBound::Store, "{rate} {bound:?}");
        assert!(text.ends_with("the store has no more to spare"), "{text}");
        let (later, _, _) = told(0.01, 40).await;
        assert!(later > rate * 1.2, "it grows again: {rate} {later}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_estimates_have_learnt_goes_over_with_the_lease() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let node = node(1, Config::default(), leases, &bus);
        let learnt = RoomState {
            number: 50,
            frontier: 100,
            issued: 5_000,
            show_up: 0.8,
            leaving: 0.0004,
            leaving_least: 0.0003,
            leaving_most: 0.0006,
            lows: vec![0.5; 4],
            highs: vec![1.8; 4],
            ..RoomState::default()
        };
        node.control.shared.room.heard(FencingToken(0), &learnt);
        let mut states = bus.subscribe(Subject::Control).await.unwrap();
        acting(&node).await;
        let first = loop {
            if let Some(room) = next(&mut *states).await.room {
                break room;
            }
        };
        let of_all = |list: &[f64], range: std::ops::Range<f64>| list.iter().all(|one| range.contains(one));
        assert!(of_all(&first.lows, 0.4..0.55) && of_all(&first.highs, 1.7..2.2), "{first:?}");
        assert!(first.leaving_least < first.leaving && first.leaving < first.leaving_most, "{first:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_holds_over_a_change_of_holder() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let first = node(1, Config::default(), leases.clone(), &bus);
        let second = node(2, Config::default(), leases, &bus);
        acting(&first).await;
        for node in [&first, &second] {
            node.control.order_room(RoomOrder::Freeze);
        }
        report(&first, ReportRoomRequest { issued: 500, ..wanted(1, 0) }).await.unwrap();
        sleep(Duration::from_secs(3)).await;
        assert!(
            first.control.room_text().starts_with("Stopped, ordered freeze"),
            "{}",
            first.control.room_text()
        );
        first.tasks.close_and_wait(BOUND).await.unwrap();
        acting(&second).await;
        report(&second, ReportRoomRequest { issued: 500, ..wanted(1, 0) }).await.unwrap();
        let before = second.control.shared.room.state().last.f;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(second.control.shared.room.state().last.f, before);
        second.control.order_room(RoomOrder::Open);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(second.control.shared.room.state().last.f, 500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lottery_outlives_its_holders_and_is_drawn_once() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let opens_at =
            Duration::from_micros(TestClock::default().now().as_micros()) + Duration::from_secs(3_600);
        let opens_at = Some(std::time::UNIX_EPOCH + opens_at);
        let room = RoomConfig { opens_at, ..RoomConfig::default() };
        let config = Config { room, ..Config::default() };
        let first = node(1, config.clone(), leases.clone(), &bus);
        acting(&first).await;
        report(&first, ReportRoomRequest { issued: 500, ..wanted(1, 500) }).await.unwrap();
        sleep(Duration::from_secs(10)).await;
        let last = |node: &Node| node.control.shared.room.state().last;
        let closed = Pool { first: 1, count: 0 };
        assert_eq!((last(&first).f, last(&first).mode, last(&first).pool), (0, Mode::NotOpen, Some(closed)));
        first.tasks.close_and_wait(BOUND).await.unwrap();

        // They have heard nothing of it.
        let second = node(2, config.clone(), leases.clone(), &Arc::new(LocalBus::new()));
        acting(&second).await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!((last(&second).f, last(&second).pool), (0, Some(closed)));
        second.control.order_room(RoomOrder::Open);
        sleep(Duration::from_secs(6)).await;
        let drawn = last(&second).pool.unwrap();
        assert!(drawn.first == 1 && drawn.count >= 500, "{drawn:?}");
        assert!(last(&second).f >= 500);
        second.tasks.close_and_wait(BOUND).await.unwrap();

        let third = node(3, config, leases, &Arc::new(LocalBus::new()));
        acting(&third).await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(last(&third).pool, Some(drawn));
    }

    #[tokio::test(start_paused = true)]
    async fn reports_that_make_no_sense_are_refused() {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let node = node(1, Config::default(), leases, &bus);
        acting(&node).await;
        let backwards = NumberRange { first: 5, last: 4 };
        let wrong = [
            ReportRoomRequest { abandoned: vec![backwards], ..wanted(1, 1) },
            ReportRoomRequest { spare: Some(f64::NAN), ..wanted(1, 1) },
        ];
        for wrong in wrong {
            assert_eq!(report(&node, wrong).await.unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        // Claims of a publication that nobody made only count.
        let claimed = vec![ClaimCount { publication: u64::MAX, count: u64::MAX }];
        report(&node, ReportRoomRequest { claimed, ..wanted(1, 1) }).await.unwrap();
        sleep(Duration::from_secs(3)).await;
        assert!(node.control.shared.room.acting().is_some());
    }

    async fn next(states: &mut dyn spillway_bus::Subscription) -> ControlState {
        let event = timeout(BOUND, states.next()).await.expect("a state comes");
        let Some(Event::Hint(hint)) = event else { panic!("expected a hint, got {event:?}") };
        ControlState::decode(hint).unwrap()
    }
}
