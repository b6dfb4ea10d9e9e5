//! One case, from load to verdict.

use std::time::Duration;

use anyhow::Result;
use rand::RngCore;
use rand::rngs::StdRng;
use spillway_fleet::Fleet;
use surge::ledger::Counts;
use tokio::time::{Instant, sleep};

use super::control::ControlWatch;
use super::footprint::Footprint;
use super::load::{Load, Seconds};
use super::table::{Figures, Row};
use super::world::World;
use super::{Case, Plan};

/// Sends flow before something is done to the fleet.
const WARM_UP: Duration = Duration::from_secs(3);
/// And after it has recovered, so that what breaks late is seen.
const COOL_DOWN: Duration = Duration::from_secs(3);
/// Sends work again within this time.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// A device that stays online has everything within this time.
const DELIVERY_MAX: Duration = Duration::from_secs(60);
/// What is left then must at least come to a new session.
const FETCH_MAX: Duration = Duration::from_secs(30);
/// Memory and subscriptions are back within this time.
const TIDY_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// What all cases of a run share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub(super) plan: &'a Plan,
    pub(super) world: &'a World,
    pub(super) watch: &'a ControlWatch,
    /// At NATS while every device is online: one for each of them, and those of a fleet that nobody uses.
    pub(super) subscriptions: u64,
}

#[derive(Debug)]
pub(super) struct Trial<'a> {
    pub(super) scene: Scene<'a>,
    pub(super) fleet: &'a mut Fleet,
    pub(super) random: StdRng,
    load: Option<Load>,
    /// The end of the last fault.
    ended: Instant,
    slowest: Duration,
    problems: Vec<String>,
}

impl<'a> Trial<'a> {
    pub(super) async fn run(case: Case, scene: Scene<'a>, fleet: &'a mut Fleet) -> Row {
        println!("\n{case}");
        let mut trial = Self {
            scene,
            fleet,
            random: case.random(scene.plan.seed),
            load: None,
            ended: Instant::now(),
            slowest: Duration::ZERO,
            problems: Vec::new(),
        };
        let mut figures = Figures::default();
        if let Err(error) = trial.steps(case, &mut figures).await {
            trial.problem(format!("{error:#}"));
            // The next case needs all of the fleet.
            trial.load = None;
            if let Err(error) = trial.fleet.start_all().await {
                trial.problem(format!("{:#}", anyhow::Error::new(error)));
            }
        }
        Row { name: case.to_string(), figures, problems: trial.problems }
    }

    async fn steps(&mut self, case: Case, figures: &mut Figures) -> Result<()> {
        figures.before = Footprint::take(self.fleet).await?;
        let before = self.scene.world.shared.ledger.counts();
        let seed = self.random.next_u64();
        self.load = Some(Load::start(self.scene.world, self.scene.plan.sends_per_s, seed)?);
        sleep(WARM_UP).await;
        self.inject(case).await?;
        sleep(COOL_DOWN).await;
        if let Some(load) = self.load.take() {
            let tally = load.finish().await;
            if tally.failed > 0 {
                println!("  failed sends: {}", tally.reasons);
            }
            (figures.failed, figures.bad_seconds) = (tally.failed, tally.bad_seconds);
        }
        figures.recovery = self.slowest;
        self.delivered(before, figures).await;
        self.tidied(figures).await
    }

    /// Waits until sends work again after something that ended at `mark`.
    pub(super) async fn recovers_from(&mut self, mark: Instant) {
        self.ended = mark;
        let Some(load) = &self.load else { return };
        let known = Seconds::known_at(mark, RECOVERY_MAX);
        let recovery = loop {
            if let Some(recovery) = load.seconds.working_after(mark) {
                break Some(recovery);
            }
            if Instant::now() >= known {
                break None;
            }
            sleep(POLL).await;
        };
        self.slowest = self.slowest.max(recovery.unwrap_or(known - mark));
        if recovery.is_none_or(|recovery| recovery > RECOVERY_MAX) {
            self.problem(format!("sends did not work {} s after the fault", RECOVERY_MAX.as_secs()));
        }
    }

    /// Everything acknowledged arrives at devices that are online, and nothing twice.
    async fn delivered(&mut self, before: Counts, figures: &mut Figures) {
        let ledger = &self.scene.world.shared.ledger;
        let lost = || ledger.counts().lost.saturating_sub(before.lost);
        // Never less than some seconds after the last send.
        let until = (self.ended + DELIVERY_MAX).max(Instant::now() + COOL_DOWN);
        wait_until(until, || lost() == 0).await;
        figures.late = lost();
        if figures.late > 0 {
            self.scene.world.shared.reconnect.send_modify(|times| *times += 1);
            wait_until(Instant::now() + FETCH_MAX, || lost() == 0).await;
        }
        let counts = ledger.counts();
        figures.acked = counts.acked - before.acked;
        figures.lost = lost();
        figures.duplicates = counts.duplicated - before.duplicated;
        let wrong = |counts: Counts| counts.corrupted + counts.unexpected + counts.foreign;
        if figures.acked == 0 {
            self.problem("no send was acknowledged".to_owned());
        }
        if figures.late > figures.lost {
            self.problem(format!("{} came to a new session only", figures.late - figures.lost));
        }
        if figures.lost > 0 {
            self.problem(format!("lost, some of them: {:?}", ledger.lost_examples(5)));
        }
        if figures.duplicates > 0 {
            self.problem("messages came twice".to_owned());
        }
        if wrong(counts) > wrong(before) {
            self.problem("something came that was not sent".to_owned());
        }
    }

    /// Nothing is left behind, and everything works.
    async fn tidied(&mut self, figures: &mut Figures) -> Result<()> {
        if let Err(error) = self.scene.world.all_online().await {
            self.problem(error.to_string());
        }
        if let Err(error) = self.scene.world.newcomer().await {
            self.problem(format!("nobody can sign up: {error:#}"));
        }
        let expected = Footprint { subscriptions: self.scene.subscriptions, ..figures.before };
        let (after, growth) = settled(self.fleet, expected).await?;
        figures.after = after;
        self.problems.extend(growth);
        self.problems.extend(self.scene.watch.take_violations());
        Ok(())
    }

    pub(super) fn problem(&mut self, problem: String) {
        println!("  {problem}");
        self.problems.push(problem);
    }
}

/// After everybody has left: as many subscriptions as before anybody came.
pub(super) async fn left_behind(fleet: &Fleet, before: Footprint, empty: Footprint) -> Result<Row> {
    // Memory of sessions is kept by the allocator for the next ones.
    let allowed = Footprint { resident_bytes: before.resident_bytes, ..empty };
    let (after, problems) = settled(fleet, allowed).await?;
    let figures = Figures { before, after, ..Figures::default() };
    Ok(Row { name: "everybody offline".to_owned(), figures, problems })
}

/// The footprint once it is back at `before`, or what is still more after a minute.
async fn settled(fleet: &Fleet, before: Footprint) -> Result<(Footprint, Vec<String>)> {
    let until = Instant::now() + TIDY_MAX;
    loop {
        let now = Footprint::take(fleet).await?;
        let growth = now.growth_since(&before);
        if growth.is_empty() || Instant::now() >= until {
            return Ok((now, growth));
        }
        sleep(POLL * 5).await;
    }
}

async fn wait_until(until: Instant, holds: impl Fn() -> bool) {
    while !holds() && Instant::now() < until {
        sleep(POLL).await;
    }
}
