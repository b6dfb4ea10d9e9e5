//! The shipped law: as much at once as throughput needs, and not more.
//!
//! Three parts, from the slow law of `reference/overload.md` b.3:
//!
//! - **Need.** By Little's law, what throughput needs is inflight / x, where x is the service time over the uncongested
//!   one of the same kinds. The limit aims at twice that (BBR's gain), so that chance does not leave seats empty.
//! - **Veto.** Every move is a trial that throughput judges: if it fell with the limit, the time was the backend's own and
//!   not a queue in it, the move is taken back, and the limit grows for as long as throughput follows. This is the
//!   correlation veto of Cinnamon and failsafe-go with the variation made on purpose, because a limit that is held still
//!   has nothing to correlate with. It closes the hole of gradient laws in both directions: a steadily bad time does not
//!   become normal, and a slow backend is not starved.
//! - **Ceiling and dips.** Acks above an absolute time lower the limit; and a limit that has been full for a minute is
//!   lowered by a quarter for a window (brpc), which also measures the uncongested time again.
//!
//! One part is fast, because the slow ones take windows of a second: when calls take several times as long as they need
//! although throughput is what it was, they queue inside, and the limit is cut within a few ticks.

mod cut;

use std::time::Duration;

use crate::class::Tier;
use crate::config::LimiterConfig;
use crate::limiter::{Kind, LimitLaw, LimitTick, Sample};
use cut::{Cut, Recent, Verdict};

/// The shipped law for the limit: what throughput needs, with every move judged by throughput, an absolute ceiling, dips, and a
/// fast cut when calls queue inside. The head of its file has the reasons.
#[derive(Debug)]
pub struct Adaptive {
    config: LimiterConfig,
    least: f64,
    most: f64,
    limit: f64,
    /// Not lowered to less than this only because little runs.
    quiet: f64,
    /// The most that ran at once lately, fading by half in 30 s.
    peak: f64,
    kinds: Box<[Baseline; Kind::COUNT]>,
    window: Window,
    fast: Fast,
    /// Throughput at the limit, smoothed over windows, and the most of it lately, fading by 1 % a window.
    smooth: f64,
    reached: f64,
    trial: Option<Trial>,
    /// A fast cut that has not been judged yet.
    cut: Option<Cut>,
    recent: Recent,
    cuts: Patience,
    /// The last trial upwards was answered by throughput.
    follows: bool,
    starting: bool,
    /// Windows in a row in which acks were above the ceiling.
    late_windows: u32,
    /// After a move was taken back, another in its direction waits, longer each time.
    down: Patience,
    up: Patience,
    /// Throughput did not follow upwards, so less may do as well.
    probe_down: bool,
    full_for: Duration,
    dip_after: Duration,
    last_delay_cut: Duration,
}

/// The uncongested service time of a kind, in seconds; 0 until it is known.
#[derive(Clone, Copy, Debug, Default)]
struct Baseline {
    mean: f64,
    window: Sum,
    tick: Sum,
}

/// Seconds of service, and over how many seats. A call of two seats counts twice in both.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    sum: f64,
    seats: f64,
}

/// Of the ticks since the fast part last had enough to see.
#[derive(Clone, Copy, Debug, Default)]
struct Fast {
    span: f64,
    /// Of kinds with a baseline: seconds that they took, that they need, and how many.
    sum: f64,
    needed: f64,
    seats: f64,
    /// Seconds that kinds without a baseline took.
    unknown: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    span: f64,
    full: f64,
    finished_full: f64,
    inflight_full: f64,
    inflight: f64,
    inflight_max: u32,
    acks: f64,
    acks_late: f64,
}

/// A move that throughput has to confirm.
#[derive(Clone, Copy, Debug)]
struct Trial {
    from: f64,
    /// Throughput at `from`.
    before: f64,
    /// Until then calls finish that began before the move.
    settled: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Patience {
    until: Duration,
    next: Duration,
}

/// Seats beyond the gain, for limits so small that a gain means nothing.
const SPARE: f64 = 4.0;
/// Of a change of the limit, throughput follows this much on the rising side of its curve, and less beyond the knee.
const FOLLOWS_DOWN: f64 = 0.3;
const FOLLOWS_UP: f64 = 0.5;
const STEP_DOWN: f64 = 0.75;
const STEP_UP: f64 = 1.25;
const STEP_UP_STARTING: f64 = 1.5;
/// A limit above so many times the peak says nothing, and would let in too much at once when a surge comes.
const UNUSED: f64 = 5.0;
const PEAK_HALVES_S: f64 = 30.0;
/// Within a tenth of the aim is there.
const CLOSE: f64 = 0.1;
/// Acks above the ceiling that take no longer than they need are no queue; the dips see to those.
const LATE_SWOLLEN: f64 = 1.25;
/// Twice the uncongested time is what a gain of two costs; this much more means queues inside.
const SWOLLEN: f64 = 3.0;
const FAST_SEATS: f64 = 5.0;
/// The most that one tick cuts.
const CUT: f64 = 0.25;
const COSTS_NOTHING: f64 = 0.9;
const DRAINING: f64 = 0.9;
/// Of the throughput that was reached lately: several moves down, each of which lost too little to be seen, may not lose more
/// than this together.
const KEPT: f64 = 0.9;
const REACHED_FADES: f64 = 0.99;
/// A baseline sinks to a faster window at once, by half, and rises by 2 % a minute, or faster when so little runs
/// that it cannot be congestion.
const BASELINE_SINKS: f64 = 0.5;
const BASELINE_RISES_PER_S: f64 = 0.02 / 60.0;
const BASELINE_RISES_IDLE: f64 = 0.1;
const BASELINE_SEATS: f64 = 50.0;
const DELAY_CUT_ABOVE: Duration = Duration::from_millis(50);
const DELAY_CUT_EVERY: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(5);
/// Shorter, because a backend that collapses under the calls in it looks at first as if the cut had done it.
const PATIENCE_CUT: Duration = Duration::from_secs(1);
const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// Service times until what finishes has begun under the limit of a trial.
const SETTLING_CALLS: f64 = 3.0;
/// As long as calls may take that clients still wait for.
const SETTLING_MAX_S: f64 = 3.0;
/// A window is judged at latest after so many times its length.
const EXTENDED: f64 = 5.0;

impl Adaptive {
    pub fn new(config: LimiterConfig, cores: u32) -> Self {
        let least = f64::from(config.least.unwrap_or(2 * cores).min(config.most));
        let most = f64::from(config.most);
        let limit = f64::from(config.initial(cores)).clamp(least, most);
        Self {
            config,
            least,
            most,
            limit,
            quiet: f64::from(32 * cores).clamp(least, limit),
            peak: 0.0,
            kinds: Box::new([Baseline::default(); Kind::COUNT]),
            window: Window::default(),
            fast: Fast::default(),
            smooth: 0.0,
            reached: 0.0,
            trial: None,
            cut: None,
            recent: Recent::default(),
            cuts: Patience::default(),
            follows: false,
            starting: true,
            late_windows: 0,
            down: Patience::default(),
            up: Patience::default(),
            probe_down: false,
            full_for: Duration::ZERO,
            dip_after: config.dip_every,
            last_delay_cut: Duration::ZERO,
        }
    }

    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Closes the tick's sums over all kinds.
    fn gather(&mut self, tick: &LimitTick) {
        let length = tick.length.as_secs_f64();
        for kind in self.kinds.iter_mut().filter(|kind| kind.tick.seats > 0.0) {
            if kind.mean > 0.0 {
                self.fast.sum += kind.tick.sum;
                self.fast.needed += kind.tick.seats * kind.mean;
                self.fast.seats += kind.tick.seats;
            } else {
                self.fast.unknown += kind.tick.sum;
            }
            kind.window.sum += kind.tick.sum;
            kind.window.seats += kind.tick.seats;
            kind.tick = Sum::default();
        }
        self.fast.span += length;
        let window = &mut self.window;
        window.span += length;
        window.full += length * tick.full;
        window.finished_full += tick.finished_full as f64;
        window.inflight += tick.inflight_mean * length;
        window.inflight_full += tick.inflight_mean * length * tick.full;
        window.inflight_max = window.inflight_max.max(tick.inflight_max);
        let fade = 0.5f64.powf(length / PEAK_HALVES_S);
        self.peak = (self.peak * fade).max(tick.inflight_max.into());
        self.full_for = if tick.full > 0.5 { self.full_for + tick.length } else { Duration::ZERO };
    }

    /// Calls take several times what they need: they queue inside. Within some ticks the limit is cut to what throughput
    /// needs; if throughput falls with it, the time was the backend's own, and the cut is taken back.
    fn cut_if_swollen(&mut self, tick: &LimitTick) {
        self.recent.take_in(tick);
        match self.cut.as_mut().map(|cut| cut.judge(tick)) {
            Some(Verdict::TakeBack) => {
                let cut = self.cut.take();
                self.set(cut.map_or(self.limit, |cut| cut.trial.from));
                self.cuts.try_later(tick.now, PATIENCE_CUT);
                self.begin_window();
                return;
            }
            Some(Verdict::Keep) => self.cut = None,
            Some(Verdict::NotYet) | None => {}
        }
        if self.fast.seats < FAST_SEATS {
            return;
        }
        let Fast { sum, needed, unknown, span, .. } = std::mem::take(&mut self.fast);
        let swollen = sum / needed;
        let aim = self.config.gain * (needed + unknown / swollen) / span + SPARE;
        // When the load has gone those finish last that take longest, and it only looks so.
        let draining = f64::from(tick.inflight) < DRAINING * tick.inflight_mean;
        let queues_inside = swollen > SWOLLEN && tick.inflight_mean > aim && self.limit > aim && !draining;
        // What finishes after a cut began before it. Until that is over, one more is only for those whom the first has
        // cost nothing.
        let costs = self.cut.is_some_and(|cut| self.recent.per_second() < COSTS_NOTHING * cut.trial.before);
        if queues_inside && !costs && !self.follows && self.cuts.is_over(tick.now) {
            let (from, before) = self
                .cut
                .map_or((self.limit, self.recent.per_second()), |cut| (cut.trial.from, cut.trial.before));
            self.set(aim.max(self.limit * CUT));
            let mean = tick.inflight_mean / self.recent.per_second().max(1.0);
            self.cut = Some(Cut::new(Trial { from, before, settled: tick.now + settling(mean) }));
            self.starting = false;
            self.trial = None;
            // What was too much above may be too little here.
            self.up = Patience::default();
            self.begin_window();
        }
    }

    fn cut_if_delayed(&mut self, tick: &LimitTick) {
        let due = tick.now.saturating_sub(self.last_delay_cut) >= DELAY_CUT_EVERY;
        if tick.run_queue_delay > DELAY_CUT_ABOVE && tick.full > 0.0 && due {
            self.last_delay_cut = tick.now;
            self.set(self.limit * 0.9);
        }
    }

    fn judge(&mut self, now: Duration) {
        let window = self.window;
        let swollen = self.close_baselines();
        let late = window.acks_late > 0.01 * window.acks;
        self.late_windows = if late && window.acks > 0.0 { self.late_windows + 1 } else { 0 };
        // Throughput says something about the limit only while the limit was reached.
        let throughput =
            (window.full > window.span / 2.0).then(|| window.finished_full / window.full.max(1e-9));
        if let Some(throughput) = throughput {
            self.smooth = if self.smooth == 0.0 { throughput } else { (self.smooth + throughput) / 2.0 };
            self.reached = (self.reached * REACHED_FADES).max(self.smooth);
        }
        match (self.trial.take(), throughput) {
            (Some(trial), Some(throughput)) => {
                let throughput = self.conclude(now, trial, throughput, swollen);
                self.begin_trial(now, throughput, swollen);
            }
            // The load went away in the middle of it. What was lowered without proof is raised again.
            (Some(trial), None) => self.set(self.limit.max(trial.from)),
            (None, Some(throughput)) => self.begin_trial(now, throughput, swollen),
            (None, None) => {
                self.follows = false;
                let unused = self.limit > self.quiet.max(UNUSED * self.peak);
                if f64::from(window.inflight_max) > self.limit / 2.0 && swollen < self.config.gain {
                    self.set(self.limit + self.limit.log10().max(1.0));
                } else if unused {
                    self.set((self.limit * 0.9).max(self.quiet));
                }
            }
        }
        self.begin_window();
    }

    fn begin_trial(&mut self, now: Duration, throughput: f64, swollen: f64) {
        let window = &self.window;
        let inflight = window.inflight_full / window.full.max(1e-9);
        let aim = self.config.gain * inflight / swollen + SPARE;
        let from = self.limit;
        if self.follows {
            self.set(from * STEP_UP);
        } else if (self.probe_down || self.late_windows >= 2 && swollen > LATE_SWOLLEN)
            && self.down.is_over(now)
        {
            self.set(from * STEP_DOWN);
        } else if aim < from * (1.0 - CLOSE) && self.down.is_over(now) {
            self.set(aim.max(from * STEP_DOWN));
        } else if aim > from * (1.0 + CLOSE) && self.up.is_over(now) {
            self.set(aim.min(from * if self.starting { STEP_UP_STARTING } else { STEP_UP }));
        } else if self.full_for >= self.dip_after {
            self.set(from * STEP_DOWN);
            self.full_for = Duration::ZERO;
            // Half to one and a half times, so that the processes of a fleet do not dip together.
            let jitter =
                0.5 + (now.as_nanos() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as f64 / u64::MAX as f64;
            self.dip_after = self.config.dip_every.mul_f64(jitter);
        }
        if (self.limit - from).abs() >= 1.0 {
            let mean = inflight / throughput.max(1e-9);
            self.trial = Some(Trial { from, before: throughput, settled: now + settling(mean) });
        }
    }

    /// Keeps a move or takes it back; answers the throughput at the limit that is then in force.
    fn conclude(&mut self, now: Duration, trial: Trial, throughput: f64, swollen: f64) -> f64 {
        let change = self.limit / trial.from - 1.0;
        let followed = (throughput / trial.before.max(1e-9) - 1.0) / change;
        self.follows = followed > if change < 0.0 { FOLLOWS_DOWN } else { FOLLOWS_UP };
        if change < 0.0 && !self.follows && throughput >= KEPT * self.reached {
            self.down = Patience::default();
            self.up = Patience::default();
            return throughput;
        }
        if change < 0.0 {
            self.starting = false;
            self.probe_down = false;
            self.down.try_later(now, PATIENCE);
        } else if self.follows {
            self.up = Patience::default();
            if swollen > self.config.gain {
                self.rebase();
            }
            return throughput;
        } else {
            self.starting = false;
            if followed > FOLLOWS_UP / 2.0 {
                return throughput;
            }
            self.up.try_later(now, PATIENCE);
            self.probe_down = true;
        }
        self.set(trial.from);
        trial.before
    }

    /// Takes the window's times up into the baselines; answers how swollen they were.
    fn close_baselines(&mut self) -> f64 {
        let window = &self.window;
        let idle = window.full == 0.0 && window.inflight / window.span.max(1e-9) < self.least / 4.0;
        let rises = 1.0 + BASELINE_RISES_PER_S * window.span;
        let known = self.kinds.iter().filter(|kind| kind.mean > 0.0 && kind.window.seats > 0.0);
        let (sum, needed) = known.fold((0.0, 0.0), |(sum, needed), Baseline { mean, window, .. }| {
            (sum + window.sum, needed + window.seats * mean)
        });
        let swollen = if needed > 0.0 { (sum / needed).max(1.0) } else { 1.0 };
        for kind in self.kinds.iter_mut().filter(|kind| kind.window.seats >= BASELINE_SEATS) {
            let mean = kind.window.sum / kind.window.seats;
            if kind.mean == 0.0 {
                // It is probably as swollen as those that are known.
                kind.mean = mean / swollen;
            } else if mean < kind.mean {
                kind.mean += BASELINE_SINKS * (mean - kind.mean);
            } else if idle {
                kind.mean += BASELINE_RISES_IDLE * (mean - kind.mean);
            } else {
                kind.mean = (kind.mean * rises).min(mean);
            }
        }
        swollen
    }

    /// Throughput followed the limit although times were long: they are the backend's own.
    fn rebase(&mut self) {
        for kind in self.kinds.iter_mut().filter(|kind| kind.window.seats >= BASELINE_SEATS) {
            kind.mean = kind.window.sum / kind.window.seats;
        }
    }

    fn begin_window(&mut self) {
        self.window = Window::default();
        for kind in self.kinds.iter_mut() {
            kind.window = Sum::default();
        }
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(self.least, self.most);
    }
}

/// How long calls of this mean time finish that began before a move.
fn settling(mean_s: f64) -> Duration {
    Duration::from_secs_f64((SETTLING_CALLS * mean_s).clamp(0.1, SETTLING_MAX_S))
}

impl LimitLaw for Adaptive {
    fn finished(&mut self, sample: &Sample) {
        let seats = f64::from(sample.seats);
        let tick = &mut self.kinds[sample.kind.index()].tick;
        tick.sum += sample.service.as_secs_f64() * seats;
        tick.seats += seats;
        if sample.tier == Tier::Ack {
            self.window.acks += 1.0;
            self.window.acks_late += f64::from(u8::from(sample.service > self.config.ceiling));
        }
    }

    fn tick(&mut self, tick: &LimitTick) -> u32 {
        self.gather(tick);
        self.cut_if_swollen(tick);
        self.cut_if_delayed(tick);
        if self.trial.is_some_and(|trial| tick.now < trial.settled) {
            self.begin_window();
        }
        let (span, length) = (self.window.span, self.config.window.as_secs_f64());
        let calls = self.kinds.iter().map(|kind| kind.window.seats).sum::<f64>();
        let enough = f64::from(self.config.window_calls);
        let complete = span >= length && calls >= enough;
        if complete || span >= length * EXTENDED || span >= length / 4.0 && calls >= 10.0 * enough {
            self.judge(tick.now);
        }
        self.limit()
    }
}

impl Patience {
    fn is_over(&self, now: Duration) -> bool {
        now >= self.until
    }

    fn try_later(&mut self, now: Duration, first: Duration) {
        self.next = (self.next * 2).clamp(first, PATIENCE_MAX);
        self.until = now + self.next;
    }
}
