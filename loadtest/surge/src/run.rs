//! A run from beginning to end: a target, people, a probe, calm, the surge, and the verdict.

mod arrivals;
mod brownout;
mod conclusion;
mod own_server;
mod people;
mod probe;
mod recorder;
mod room;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use arc_swap::ArcSwap;
use spillway_client::ClientConfig;
use spillway_types::{Clock, SystemClock, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admin::{Admin, AdminError};
use crate::carrier::Carrier;
use crate::cli::AskedError;
use crate::cli::RunOptions;
use crate::codes::{CodeStream, CodesError, Phones};
use crate::curve::{Curve, HourlyError, Replay, signal_2021};
use crate::faults::Fault;
use crate::gates::{GateFile, Rule};
use crate::ledger::Ledger;
use crate::observe::Observer;
use crate::population::Population;
use crate::profile::{Brownout, Profile, pumping};
use crate::progress::Progress;
use crate::room::Room;
use crate::run_folder::{RunFolder, RunFolderError};
use crate::server::{ServerError, ServerProcess};
use crate::slo::ExitCode;
use crate::stats::{Phase, Stats};
use crate::summary::Summary;
use crate::target::{Target, TargetError, check_loopback};
use crate::workload::{Habits, Stage, World, is_reachable};

pub(crate) use conclusion::{generator, server};

pub(crate) const BEFORE: &str = "before";
pub(crate) const SURGE: &str = "surge";
pub(crate) const SETTLING: &str = "settling";

/// How long what is on its way at the end may take to arrive.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// After that nobody sends, and what was acknowledged at the last moment has so long to arrive.
const QUIET_MAX: Duration = Duration::from_secs(10);

/// Why a run did not take place.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("nobody answers at {0}; is the service running?")]
    Unreachable(String),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Codes(#[from] CodesError),
    #[error("the curve cannot be replayed")]
    Curve(#[from] HourlyError),
    #[error("the curve cannot be scaled")]
    Scale(#[from] crate::curve::CurveError),
    #[error("only {signed_up} of {wanted} existing users could sign up: {reasons}")]
    People { signed_up: usize, wanted: u32, reasons: String },
    #[error(
        "nobody completed a sign-up during the probe: {reasons}. If the target has a waiting room that lets in few, name the peak with --peak-rate"
    )]
    Probe { reasons: String },
    #[error(
        "the load tool plays the provider of codes in this profile, so it must start the service itself: leave out --target"
    )]
    OwnServerNeeded,
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Asked(#[from] AskedError),
    #[error("cannot listen as a provider of codes")]
    Carrier(#[source] io::Error),
    #[error("the operating system gives no more threads")]
    Thread(#[source] io::Error),
    #[error("cannot listen for Ctrl-C")]
    Signal(#[source] io::Error),
}

impl RunError {
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreachable(_) | Self::Codes(_) => ExitCode::Unreachable,
            _ => ExitCode::Usage,
        }
    }
}

/// What a run is made of, from its start to its end.
pub(crate) struct Run {
    pub(crate) options: RunOptions,
    pub(crate) seed: u64,
    pub(crate) started: Timestamp,
    pub(crate) target: Target,
    pub(crate) admin: Admin,
    /// The provider of codes, when it is this process.
    pub(crate) carrier: Option<Carrier>,
    /// Gates that were asked for, beside those that every run has unless `default_gates` is false.
    pub(crate) rules: Vec<Rule>,
    pub(crate) default_gates: bool,
    pub(crate) faults: Vec<Fault>,
    pub(crate) observer: Observer,
    /// Resident memory and sessions of the service before anybody was brought in.
    pub(crate) empty: Option<(u64, u64)>,
    pub(crate) world: Arc<World>,
    pub(crate) progress: Progress<io::Stderr>,
    /// Everybody's tasks; aborted when the run is dropped.
    pub(crate) tasks: JoinSet<()>,
    /// Becomes true at the first Ctrl-C.
    pub(crate) interrupted: watch::Receiver<bool>,
}

/// What is replayed.
pub(crate) struct Plan {
    pub(crate) replay: Replay,
    pub(crate) probed_per_s: Option<f64>,
    /// Highest planned rate over one second.
    pub(crate) peak_per_s: f64,
    /// What the waiting room was ordered to let in.
    pub(crate) admit_per_s: Option<f64>,
    pub(crate) brownout: Option<Brownout>,
}

/// Runs, writes the run folder, and says how it went.
///
/// # Errors
///
/// When the run could not take place.
pub async fn run(options: &RunOptions) -> Result<ExitCode, RunError> {
    let (summary, folder) = measure(options).await?;
    conclusion::print(&summary, &folder);
    Ok(summary.exit_code)
}

/// Runs and writes the run folder.
///
/// # Errors
///
/// When the run could not take place.
pub async fn measure(options: &RunOptions) -> Result<(Summary, RunFolder), RunError> {
    let asked = options.asked.read()?;
    let started = options.continued.as_ref().map_or_else(|| SystemClock.now(), |continued| continued.started);
    if options.profile.plays_provider() && !options.target.is_empty() {
        return Err(RunError::OwnServerNeeded);
    }
    for address in options.target.iter().chain(&options.admin) {
        let address = if address.contains("://") { address.clone() } else { format!("http://{address}") };
        check_loopback(&address, options.i_own_this_target)?;
    }
    for address in &options.target {
        if !is_reachable(address).await {
            return Err(RunError::Unreachable(address.clone()));
        }
    }
    for address in &options.codes {
        check_loopback(address, options.i_own_this_target)?;
    }
    let folder = match &options.continued {
        Some(continued) => RunFolder::open(&continued.folder),
        None => RunFolder::create(&options.out, started, options.profile.name())?,
    };
    let (phones, mut tasks) = (Phones::default(), JoinSet::new());
    let carrier = match options.profile.plays_provider() {
        true => Some(play_provider(&phones, &mut tasks).await?),
        false => None,
    };
    let mut own_server = None;
    let target = if options.target.is_empty() {
        let server = own_server::start(options, &folder, carrier.as_ref()).await?;
        let target = own_server::target(&server);
        own_server = Some(server);
        target
    } else {
        let (pids, admin) = (options.server_pid.clone(), options.admin.clone());
        Target { public: options.target.join(","), codes: options.codes.clone(), admin, pids }
    };
    let run = Run::new(options.clone(), started, target, carrier, phones, tasks, asked).await?;
    let summary = run.go(&folder).await?;
    if let Some(server) = own_server {
        stop(server).await;
    }
    Ok((summary, folder))
}

async fn play_provider(phones: &Phones, tasks: &mut JoinSet<()>) -> Result<Carrier, RunError> {
    let (carrier, served) = Carrier::start(phones.clone()).await.map_err(RunError::Carrier)?;
    tasks.spawn(async move {
        if let Err(error) = served.await {
            tracing::warn!(error = %anyhow::Error::new(error), "no more codes are taken");
        }
    });
    Ok(carrier)
}

async fn stop(server: ServerProcess) {
    match server.stop(Duration::from_secs(45)).await {
        Ok(status) if status.success() => {}
        Ok(status) => eprintln!("warning: the service ended with {status}"),
        Err(error) => eprintln!("warning: {:#}", anyhow::Error::new(error)),
    }
}

impl Run {
    async fn new(
        options: RunOptions,
        started: Timestamp,
        target: Target,
        carrier: Option<Carrier>,
        phones: Phones,
        mut tasks: JoinSet<()>,
        asked: GateFile,
    ) -> Result<Self, RunError> {
        let seed = options.seed();
        let admin = Admin::new(target.admin.iter().map(String::as_str))?;
        tasks.spawn(admin.clone().watch());
        for address in &target.codes {
            let codes = CodeStream::open(address, phones.clone()).await?;
            tasks.spawn(async move {
                if let Err(error) = codes.run().await {
                    tracing::warn!(error = %anyhow::Error::new(error), "no more codes will arrive from there");
                }
            });
        }
        let world = World {
            address: target.public.clone(),
            client: ClientConfig::default(),
            population: Population::new(seed),
            existing: options.existing,
            habits: habits(options.profile),
            phones,
            ledger: Ledger::new(seed ^ started.as_micros()),
            stats: ArcSwap::new(Stats::new(
                Instant::now(),
                vec![Phase { name: "setup", from: Duration::ZERO }],
            )),
            room: ArcSwap::new(Room::new(Instant::now())),
            room_required: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Running),
            sending: AtomicUsize::new(0),
            finishing: AtomicUsize::new(0),
        };
        let observer = Observer::new(&target.pids, &options.asked.observe);
        tasks.spawn(observer.clone().watch());
        let interrupted = interruptions(&mut tasks)?;
        let (world, progress) = (Arc::new(world), Progress::stderr(options.quiet));
        let GateFile { defaults: default_gates, rules, faults } = asked;
        Ok(Self {
            options,
            seed,
            started,
            target,
            admin,
            carrier,
            rules,
            default_gates,
            faults,
            observer,
            empty: None,
            world,
            progress,
            tasks,
            interrupted,
        })
    }

    /// The parts of the measured part, by planned time.
    fn phases(&self) -> [Phase; 3] {
        let calm = Duration::from_secs(self.options.calm);
        let parts = [(BEFORE, Duration::ZERO), (SURGE, calm), (SETTLING, calm + self.options.surge())];
        parts.map(|(name, from)| Phase { name, from })
    }

    async fn go(mut self, folder: &RunFolder) -> Result<Summary, RunError> {
        let what = match self.options.profile {
            Profile::Signal2021 => "January 2021",
            other => other.name(),
        };
        self.say(&format!("surge: {what} against {}, seed {}", self.target.public, self.seed));
        room::open(&self).await?;
        self.empty = self.memory_and_sessions();
        let people = people::sign_up(&mut self).await?;
        let plan = self.plan().await?;
        room::pace(&mut self, &plan).await?;
        if self.options.continued.is_none() {
            folder.write_manifest(&conclusion::manifest(&self, &plan))?;
        }
        let measured = arrivals::replay(&mut self, &plan, &people, folder).await;
        room::let_go(&self).await;
        let measured = measured?;
        let (summary, rows) = conclusion::conclude(&self, &plan, measured);
        // The panel is done: a terminal that went away no longer matters.
        self.progress.finish().ok();
        folder.write(&summary, &rows)?;
        Ok(summary)
    }

    async fn plan(&mut self) -> Result<Plan, RunError> {
        let length = self.options.surge();
        if let Some(steady) = self.options.steady {
            let replay = Replay::of(Curve::constant(steady.sign_ups_per_s, length)?);
            let peak_per_s = steady.sign_ups_per_s;
            return Ok(Plan { replay, probed_per_s: None, peak_per_s, admit_per_s: None, brownout: None });
        }
        if self.options.profile == Profile::Pumping {
            let replay = pumping(length)?;
            let peak_per_s = replay.curve.peak_per_s();
            return Ok(Plan { replay, probed_per_s: None, peak_per_s, admit_per_s: None, brownout: None });
        }
        let probed_per_s = match self.options.peak_rate {
            Some(_) => None,
            None => Some(probe::capacity(self).await?),
        };
        let peak_per_s = match (self.options.peak_rate, probed_per_s) {
            (Some(rate), _) => rate,
            (None, Some(probed)) => probed * self.options.peak,
            (None, None) => unreachable!("either a rate is given or the capacity was probed"),
        };
        if self.options.profile == Profile::ProviderBrownout {
            let brownout = Brownout::new(peak_per_s, length);
            let replay = brownout.newcomers()?;
            let peak_per_s = replay.curve.peak_per_s();
            return Ok(Plan {
                replay,
                probed_per_s,
                peak_per_s,
                admit_per_s: None,
                brownout: Some(brownout),
            });
        }
        let replay = scaled(self.options.column(), length, peak_per_s)?;
        let admit_per_s = self.options.admit().map(|share| share * peak_per_s);
        Ok(Plan { replay, probed_per_s, peak_per_s, admit_per_s, brownout: None })
    }

    /// What the service has at this moment, where both can be seen.
    fn memory_and_sessions(&self) -> Option<(u64, u64)> {
        let sessions = self.observer.observed(1, self.admin.seen().and_then(|said| said.sessions)).sessions?;
        Some((self.observer.process()?.rss_bytes, sessions))
    }

    pub(crate) fn say(&mut self, text: &str) {
        // Progress is a courtesy: a run does not fail because nobody watches.
        self.progress.say(text).ok();
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        *self.interrupted.borrow()
    }
}

fn habits(profile: Profile) -> Habits {
    match profile {
        // As often as the settings of the profile allow a second code: see `own_server`.
        Profile::ProviderBrownout => Habits { resend_after: Duration::from_secs(10), ..Habits::default() },
        _ => Habits::default(),
    }
}

/// January scaled so that its highest second has the wanted rate. An hour of January is shorter than a second of the
/// replay, so the highest hour's rate is above it.
fn scaled(column: crate::curve::Column, length: Duration, peak_per_s: f64) -> Result<Replay, RunError> {
    let unscaled = signal_2021(column).replay(length, 1.0)?;
    let highest_second = unscaled.curve.highest_mean_per_s(Duration::from_secs(1));
    Ok(signal_2021(column).replay(length, peak_per_s / highest_second)?)
}

/// The first Ctrl-C ends the run early with a report; the second ends the process.
fn interruptions(tasks: &mut JoinSet<()>) -> Result<watch::Receiver<bool>, RunError> {
    let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(RunError::Signal)?;
    let (sender, interrupted) = watch::channel(false);
    tasks.spawn(async move {
        signals.recv().await;
        sender.send_replace(true);
        signals.recv().await;
        std::process::exit(i32::from(u8::from(ExitCode::Interrupted)));
    });
    Ok(interrupted)
}
