//! Sessions move to gateways that have fewer.
//!
//! A stream stays where it was opened, so a gateway that was added for a surge would get what comes new and nothing of what made the
//! surge. Each gateway hears every second from control how many gateways and sessions there are. One that has clearly more than its
//! share tells some of its sessions to come again on a new connection; a balancer takes them wherever there is room.
//!
//! It must never be a surge of its own making: at most a two-hundredth of its sessions move in a second, and no more than
//! [`SessionConfig::rebalance_max`](crate::SessionConfig::rebalance_max); none while this gateway cuts resumes, while it drains, while
//! control is silent, or where there is no other gateway. It begins above a fifth more than its share and ends at a twentieth, so it
//! does not begin again with the next session that opens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spillway_admission::Tier;
use spillway_api::internal::v1::{Role, RoleTotal};
use spillway_chassis::{DrainHandle, Tasks};
use spillway_rpc::Hop;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::metrics::Metrics;

const EVERY: Duration = Duration::from_secs(1);
/// Control speaks each second. What it said before that says nothing any more.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// Over its share it begins, and down to so much it goes on.
const BEGINS: f64 = 1.2;
const ENDS: f64 = 1.05;
/// In small fleets a fifth is a handful, and chance.
const SOME: f64 = 50.0;
/// Of its sessions, in a second.
const SHARE_MAX: f64 = 0.005;

/// Clones are handles on the same.
#[derive(Clone, Debug)]
pub(crate) struct Balance(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// One permit, or one session that waits, for each that is to move.
    moves: Notify,
}

#[derive(Debug, Default)]
struct State {
    token: u64,
    heard: Option<(Instant, Vec<RoleTotal>)>,
    moving: bool,
}

impl Balance {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), moves: Notify::new() }))
    }

    pub(crate) fn start(&self, hop: Hop, drain: DrainHandle, metrics: Arc<Metrics>, max: u32, tasks: &Tasks) {
        let (balance, cancelled) = (self.clone(), tasks.cancelled());
        tasks.spawn("session balance", async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tokio::pin!(cancelled);
            loop {
                tokio::select! {
                    () = &mut cancelled => return,
                    _ = ticks.tick() => {}
                }
                let cuts = !hop.admission().threshold(Tier::Resume).is_open(Tier::Resume);
                let may = !cuts && !drain.is_draining();
                let own = u64::try_from(metrics.sessions_open.get()).unwrap_or(0);
                let count = if may { balance.to_move(own, max, Instant::now()) } else { balance.stay() };
                for _ in 0..count {
                    balance.0.moves.notify_one();
                }
            }
        });
    }

    /// What all processes of a role have to do, as control said last. Empty: it has not been heard lately.
    pub(crate) fn fleet(&self, now: Instant) -> Vec<RoleTotal> {
        let state = self.state();
        let heard = state.heard.as_ref().filter(|(at, _)| now.saturating_duration_since(*at) < HEARD_WITHIN);
        heard.map(|(_, roles)| roles.clone()).unwrap_or_default()
    }

    /// Resolves when this session is the next one to move. Those come first that have waited longest. The library's own future, because
    /// every idle session keeps one.
    pub(crate) fn my_move(&self) -> Notified<'_> {
        self.0.moves.notified()
    }

    /// Whether there is a reason to move. A permit that nobody waited for may be left from a time when there was one.
    pub(crate) fn is_moving(&self) -> bool {
        self.state().moving
    }

    /// Control has said what all processes of each role have to do.
    pub(crate) fn heard(&self, token: u64, roles: Vec<RoleTotal>, now: Instant) {
        let mut state = self.state();
        // Not of a holder of the past.
        if token >= state.token {
            state.token = token;
            state.heard = Some((now, roles));
        }
    }

    fn stay(&self) -> u32 {
        self.state().moving = false;
        0
    }

    /// How many of `own` sessions are to move in this second.
    fn to_move(&self, own: u64, max: u32, now: Instant) -> u32 {
        let gateways = self.fleet(now).into_iter().find(|total| total.role() == Role::Gateway);
        let mut state = self.state();
        let count = gateways.map_or(0, |total| excess(&total, own, max, state.moving));
        state.moving = count > 0;
        count
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Only whole values are assigned under this lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn excess(gateways: &RoleTotal, own: u64, max: u32, moving: bool) -> u32 {
    if gateways.processes < 2 {
        return 0;
    }
    let own = own as f64;
    let share = gateways.sessions as f64 / f64::from(gateways.processes);
    let begins = share * BEGINS + SOME;
    let ends = share * ENDS + SOME / 2.0;
    if own <= if moving { ends } else { begins } {
        return 0;
    }
    // At least one, or the last of a small excess would never move. `as` saturates.
    (own * SHARE_MAX).min(own - share).ceil().max(1.0).min(f64::from(max)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateways(processes: u32, sessions: u64) -> Vec<RoleTotal> {
        vec![RoleTotal { role: Role::Gateway.into(), processes, sessions, ..RoleTotal::default() }]
    }

    #[test]
    fn who_has_clearly_more_than_his_share_gives_some_away_and_not_all_at_once() {
        let (balance, now) = (Balance::new(), Instant::now());
        balance.heard(1, gateways(4, 40_000), now);
        assert_eq!(balance.to_move(12_050, 200, now), 0, "a fifth and some is chance");
        assert_eq!(balance.to_move(12_051, 200, now), 61);
        assert_eq!(balance.to_move(11_000, 200, now), 55, "once begun it goes on");
        assert_eq!(balance.to_move(10_525, 200, now), 0);
        assert_eq!(balance.to_move(11_000, 200, now), 0, "and then begins no sooner than before");
        assert_eq!(balance.to_move(1_000_000, 200, now), 200);
        assert_eq!(balance.to_move(1_000_000, 0, now), 0, "switched off");
    }

    #[test]
    fn without_others_or_without_news_nobody_moves() {
        let (balance, now) = (Balance::new(), Instant::now());
        assert_eq!(balance.to_move(10_000, 200, now), 0);
        balance.heard(2, gateways(1, 10_000), now);
        assert_eq!(balance.to_move(10_000, 200, now), 0);
        balance.heard(2, gateways(2, 10_000), now);
        assert_eq!(balance.to_move(10_000, 200, now), 50);
        assert_eq!(balance.to_move(10_000, 200, now + HEARD_WITHIN), 0);
        balance.heard(1, gateways(9, 10_000), now);
        assert_eq!(balance.fleet(now)[0].processes, 2, "a holder of the past");
    }

    /// A gateway that doubles the fleet, with a balancer that knows nothing: half of who moves comes back.
    #[test]
    fn a_new_gateway_has_its_share_within_minutes_and_never_a_surge() {
        let (balance, start) = (Balance::new(), Instant::now());
        let (mut old, mut new) = (50_000_u64, 0_u64);
        let mut seconds = 0;
        while seconds < 3_600 {
            let now = start + EVERY * seconds;
            balance.heard(1, gateways(2, old + new), now);
            let moves = u64::from(balance.to_move(old, 200, now));
            assert!(moves <= 200);
            if moves == 0 {
                break;
            }
            old -= moves.div_ceil(2);
            new += moves.div_ceil(2);
            seconds += 1;
        }
        assert!((150..600).contains(&seconds), "{seconds} s");
        assert!(old as f64 <= 25_000.0 * ENDS + SOME, "{old}");
    }
}
