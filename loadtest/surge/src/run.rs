//! A run from beginning to end: a target, people, a probe, calm, the surge, and the verdict.

mod actors;
mod arrivals;
mod brownout;
mod conclusion;
mod coordinate;
mod gates;
mod harm;
mod late;
mod own_server;
mod part;
mod people;
mod probe;
mod recorder;
mod room;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use spillway_client::{ClientConfig, Meter};
use spillway_types::{Clock, SystemClock, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admin::{Admin, AdminError};
use crate::carrier::Carrier;
use crate::cli::AskedError;
use crate::cli::{Continued, RunOptions};
use crate::codes::{CodeStream, CodesError, Phones};
use crate::cohorts::{Crowd, MembersError, Shares};
use crate::curve::{HourlyError, Replay, signal_2021};
use crate::faults::Fault;
use crate::gates::{GateFile, Rule};
use crate::ledger::{Ledger, OwnPart};
use crate::load::{Load, Op};
use crate::observe::Observer;
use crate::offer::{self, Offer, OfferError, SignUps};
use crate::peer::{self, Address, AddressError, NotPlayable, Peer, PeerError, Terms};
use crate::plan::Machine;
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
use crate::workers::{Part, Tie, WorkersError};
use crate::workload::{Habits, Stage, World, is_reachable};
use people::Everybody;

pub(crate) use conclusion::ALL_POLITE;
pub(crate) use gates::{observe_sessions, of_sessions};
pub use harm::Alone;
pub(crate) use part::play as play_part;

pub(crate) const BEFORE: &str = "before";
pub(crate) const SURGE: &str = "surge";
/// What a trial of a search plays.
pub(crate) const STEADY: &str = "steady load";
/// After answers were late on purpose: what is judged then is whether the service came back.
pub(crate) const AFTER: &str = "after";
pub(crate) const SETTLING: &str = "settling";

/// After answers were late, what is still on its way belongs to that time.
const RECOVERING: Duration = Duration::from_secs(5);
/// From the seed of a run to that of the people of the run that it is compared with.
const OTHER_NUMBERS: u64 = 0x5EED;
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
    #[error(transparent)]
    Offer(#[from] OfferError),
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
    #[error(transparent)]
    Members(#[from] MembersError),
    #[error(transparent)]
    Peer(#[from] AddressError),
    #[error(transparent)]
    NotPlayable(#[from] NotPlayable),
    #[error("{target} is of no use for this run")]
    NoPeer {
        target: String,
        #[source]
        source: PeerError,
    },
    #[error(
        "the part that was played had other cohorts ({before}) than what --cohorts, or the file with gates, says now ({now}): figures of a cohort would be \
         of different people. Say the first ones again, or begin anew"
    )]
    OtherCohorts { before: String, now: String },
    #[error("--harm compares a run with one without the rude, and nobody is rude: name some with --cohorts")]
    Harmless,
    #[error(transparent)]
    Workers(#[from] WorkersError),
    #[error("cannot listen as a provider of codes")]
    Carrier(#[source] io::Error),
    #[error("cannot make answers late")]
    Late(#[source] io::Error),
    #[error("the operating system gives no more threads")]
    Thread(#[source] io::Error),
    #[error("cannot listen for Ctrl-C")]
    Signal(#[source] io::Error),
}

impl RunError {
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreachable(_) | Self::Codes(_) | Self::NoPeer { .. } => ExitCode::Unreachable,
            Self::Workers(error) => error.exit_code(),
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
    /// Of those who do not behave.
    pub(crate) shares: Shares,
    /// What is driven instead of a Spillway.
    pub(crate) peer: Option<Arc<dyn Peer>>,
    /// How late answers are, where this process carries them.
    lateness: Option<late::Lateness>,
    pub(crate) progress: Progress<io::Stderr>,
    /// Everybody's tasks; aborted when the run is dropped.
    pub(crate) tasks: JoinSet<()>,
    /// Becomes true at the first Ctrl-C.
    pub(crate) interrupted: watch::Receiver<bool>,
    /// To the others, where this is what one worker plays.
    pub(crate) tie: Option<Tie>,
}

/// What a run begins with.
struct Beginning {
    started: Timestamp,
    target: Target,
    carrier: Option<Carrier>,
    phones: Phones,
    tasks: JoinSet<()>,
    asked: GateFile,
    tie: Option<Tie>,
}

/// What is replayed.
pub(crate) struct Plan {
    pub(crate) load: Load,
    /// Existing users write as they always do, because what is played does not say how.
    pub(crate) sends_in_background: bool,
    /// Its sign-ups, with the hours that they were recorded in.
    pub(crate) replay: Replay,
    pub(crate) probed_per_s: Option<f64>,
    /// Highest planned rate over one second.
    pub(crate) peak_per_s: f64,
    /// What the waiting room was ordered to let in.
    pub(crate) admit_per_s: Option<f64>,
    pub(crate) brownout: Option<Brownout>,
}

impl Plan {
    /// The parts of the measured part, by planned time.
    fn phases(&self, calm: Duration) -> Vec<Phase> {
        let recovered = self.load.behaviour.slow.iter().map(|slow| calm + slow.to + RECOVERING).max();
        let mut phases = vec![(BEFORE, Duration::ZERO), (SURGE, calm)];
        phases.extend(recovered.map(|from| (AFTER, from)));
        phases.push((SETTLING, calm + self.load.duration()));
        phases.into_iter().map(|(name, from)| Phase { name, from }).collect()
    }
}

/// Runs, writes the run folder, and says how it went.
///
/// # Errors
///
/// When the run could not take place.
pub async fn run(options: &RunOptions) -> Result<ExitCode, RunError> {
    // Drawn once: a trace is planned with it before the run.
    let options = &RunOptions { seed: Some(options.seed()), ..options.clone() };
    if options.load.dry_run {
        crate::cli::load::print(options, None, &mut io::stdout().lock())?;
        return Ok(ExitCode::Pass);
    }
    let (summary, folder) = match (options.workers.count(), options.harm) {
        (Some(workers), _) => Box::pin(coordinate::measure(options, workers)).await?,
        (None, true) => harm::measure_both(options).await?,
        (None, false) => measure(options).await?,
    };
    conclusion::print(&summary, &folder);
    Ok(summary.exit_code)
}

/// Runs and writes the run folder. The options have a seed.
///
/// # Errors
///
/// When the run could not take place.
pub async fn measure(options: &RunOptions) -> Result<(Summary, RunFolder), RunError> {
    if options.workers.count().is_some() {
        return Err(WorkersError::NotShared("a trial of a search").into());
    }
    let asked = options.asked.read()?;
    let of_run = shares(options, &asked);
    of_run.members(options.existing, options.seed())?;
    if let Some(continued) = &options.continued {
        same_as_before(continued, &of_run)?;
    }
    let started = options.continued.as_ref().map_or_else(|| SystemClock.now(), |continued| continued.started);
    if options.profile.plays_provider() && !options.target.is_empty() {
        return Err(RunError::OwnServerNeeded);
    }
    let peer = check_target(options).await?;
    if let Some(peer) = &peer {
        peer::check(options, &asked, peer)?;
    }
    // Refused before anything is started, as far as it can be known.
    if offer::is_to_be_probed(options)? {
        offer::behaviour(options)?;
    } else {
        let offer = Offer::of(options, SignUps::without_probe(options))?;
        offer.needs(options, &of_run, Part::WHOLE).check(&Machine::here()).map_err(OfferError::from)?;
    }
    let peer = match peer {
        Some(address) => Some((connected(&address, options, started).await?, address)),
        None => None,
    };
    let folder = match &options.continued {
        Some(continued) => RunFolder::open(&continued.folder),
        None => RunFolder::create(&options.out, started, &folder_name(options))?,
    };
    if let Some((peer, address)) = peer {
        let target = Target { pids: options.server_pid.clone(), ..Target::of_peer(&address) };
        let (phones, tasks) = (Phones::default(), JoinSet::new());
        let beginning = Beginning { started, target, carrier: None, phones, tasks, asked, tie: None };
        let run = Run::new(options.clone(), beginning).await?;
        let summary = Box::pin(Run { peer: Some(peer), ..run }.go(&folder)).await?;
        return Ok((summary, folder));
    }
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
    let beginning = Beginning { started, target, carrier, phones, tasks, asked, tie: None };
    let run = Run::new(options.clone(), beginning).await?;
    let summary = run.go(&folder).await?;
    if let Some(server) = own_server {
        stop(server).await;
    }
    Ok((summary, folder))
}

async fn connected(
    address: &Address,
    options: &RunOptions,
    started: Timestamp,
) -> Result<Arc<dyn Peer>, RunError> {
    let no_peer = |source| RunError::NoPeer { target: address.to_string(), source };
    peer::connect(address, id_of(options.seed(), started), &options.admin).await.map_err(no_peer)
}

/// Whether it may be a target, and is there. Whether a peer, whose address this returns, is there is found out when it is connected to.
async fn check_target(options: &RunOptions) -> Result<Option<Address>, RunError> {
    for address in options.target.iter().chain(&options.admin) {
        let address = if address.contains("://") { address.clone() } else { format!("http://{address}") };
        check_loopback(&address, options.i_own_this_target)?;
    }
    if let Some(peer) = Address::of(&options.target)? {
        return Ok(Some(peer));
    }
    for address in &options.target {
        if !is_reachable(address).await {
            return Err(RunError::Unreachable(address.clone()));
        }
    }
    for address in &options.codes {
        check_loopback(address, options.i_own_this_target)?;
    }
    Ok(None)
}

/// The same where several workers play: they are introduced to each other by accounts of Spillway.
async fn check_shared_target(options: &RunOptions) -> Result<(), RunError> {
    match check_target(options).await? {
        Some(_) => Err(WorkersError::NotShared("a load against a system to compare with").into()),
        None => Ok(()),
    }
}

/// Who does not behave: the command line comes before the file.
pub(crate) fn shares(options: &RunOptions, asked: &GateFile) -> Shares {
    options.cohorts.clone().or_else(|| asked.cohorts.clone()).unwrap_or_default()
}

/// A run goes on with the people that it began with.
fn same_as_before(continued: &Continued, now: &Shares) -> Result<(), RunError> {
    let before = continued.cohorts.as_ref().map(|cohorts| cohorts.shares.clone());
    let same = match &before {
        Some(text) => text.parse::<Shares>().is_ok_and(|before| before.are_those_of(now)),
        None => !now.has_rude(),
    };
    let before = before.unwrap_or_else(|| Shares::default().text().to_owned());
    if same { Ok(()) } else { Err(RunError::OtherCohorts { before, now: now.text().to_owned() }) }
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
    async fn new(options: RunOptions, beginning: Beginning) -> Result<Self, RunError> {
        let Beginning { started, target, carrier, phones, mut tasks, asked, tie } = beginning;
        let seed = options.seed();
        let behaviour = offer::behaviour(&options)?;
        let mut address = target.public.clone();
        let lateness = (!behaviour.slow.is_empty()).then(late::Lateness::default);
        if let Some(lateness) = &lateness {
            address = late::put_in_front(&address, lateness, &mut tasks).await.map_err(RunError::Late)?;
        }
        let meter = Meter::default();
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
        let shares = shares(&options, &asked);
        let here = tie.as_ref().map_or(Part::WHOLE, |tie| tie.part).users(options.existing);
        let crowd = Crowd::new(shares.members(options.existing, seed)?, &here, options.silent);
        // Two runs against one service have other numbers, so that they do not meet. All else is the same.
        let meets = options.silent && !options.target.is_empty();
        let people = if meets { seed.wrapping_add(OTHER_NUMBERS) } else { seed };
        let newcomers_from = options.existing + probe::INDICES;
        let mut ledger = Ledger::excepting(id_of(seed, started), crowd.exceptions());
        if let Some(tie) = &tie {
            ledger = ledger.of_part(OwnPart { part: tie.part, existing: options.existing, newcomers_from });
        }
        let world = World {
            address,
            client: ClientConfig { meter: Some(meter.clone()), ..ClientConfig::default() },
            population: Population::new(people),
            existing: options.existing,
            habits: habits(&options.profile),
            behaviour,
            newcomers_from,
            phones,
            ledger,
            crowd,
            stats: ArcSwap::new(Stats::new(
                Instant::now(),
                vec![Phase { name: "setup", from: Duration::ZERO }],
            )),
            room: ArcSwap::new(Room::new(Instant::now())),
            room_required: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Running),
            meter,
            sent_again: AtomicU64::new(0),
            asked_until_recovery: OnceLock::new(),
            sending: AtomicUsize::new(0),
            finishing: AtomicUsize::new(0),
            clock: tie.as_ref().map(|tie| tie.clock).unwrap_or_default(),
        };
        let observer = Observer::new(&target.pids, &options.asked.observe);
        tasks.spawn(observer.clone().watch());
        let interrupted = interruptions(&mut tasks)?;
        let (world, progress) = (Arc::new(world), Progress::stderr(options.quiet));
        let GateFile { defaults: default_gates, rules, faults, cohorts: _ } = asked;
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
            shares,
            peer: None,
            lateness,
            progress,
            tasks,
            interrupted,
            tie,
        })
    }

    /// By which it is told from other runs.
    fn id(&self) -> u64 {
        id_of(self.seed, self.started)
    }

    /// What its figures may be compared with.
    pub(crate) fn terms(&self) -> Terms {
        match &self.peer {
            Some(peer) => peer.terms().clone(),
            None if self.options.target.is_empty() => Terms::of_own_spillway(),
            None => Terms::of_target(),
        }
    }

    /// The existing users who live here.
    fn own_users(&self) -> std::ops::Range<u32> {
        self.tie.as_ref().map_or(Part::WHOLE, |tie| tie.part).users(self.options.existing)
    }

    /// Of all arrivals, on average, what is offered from here.
    fn share(&self) -> f64 {
        self.tie.as_ref().map_or(1.0, |tie| tie.part.share())
    }

    /// The own part of a figure of the whole run. The whole is not touched.
    fn of_own(&self, figure: f64) -> f64 {
        if self.tie.is_some() { figure * self.share() } else { figure }
    }

    async fn go(mut self, folder: &RunFolder) -> Result<Summary, RunError> {
        let what = what_is_played(&self.options);
        self.say(&format!("surge: {what} against {}, seed {}", self.target.public, self.seed));
        if self.peer.is_some() {
            for (name, value) in self.terms().entries() {
                self.say(&format!("  {}: {value}", name.replace('_', " ")));
            }
        }
        room::open(&self).await?;
        self.empty = self.memory_and_sessions();
        let people = people::bring(&mut self).await?;
        let plan = self.plan().await?;
        room::pace(&mut self, &plan).await?;
        if self.options.continued.is_none() {
            folder.write_manifest(&conclusion::manifest(&self, &plan))?;
        }
        let now = Instant::now();
        let measured = match &people {
            Everybody::OfSpillway(people) => arrivals::replay(&mut self, &plan, people, folder, now).await,
            Everybody::OfPeer(people) => arrivals::replay(&mut self, &plan, people, folder, now).await,
        };
        room::let_go(&self).await;
        self.clear().await;
        let measured = measured?;
        let (summary, rows) = conclusion::conclude(&self, &plan, measured);
        // The panel is done: a terminal that went away no longer matters.
        self.progress.finish().ok();
        folder.write(&summary, &rows)?;
        Ok(summary)
    }

    /// Takes away what the run made at a peer. Part of it stays where that does not succeed, and is named after the run.
    async fn clear(&self) {
        if let Some(peer) = &self.peer
            && let Err(error) = peer.clear(self.options.existing).await
        {
            eprintln!(
                "warning: something with {:016x} in its name is left at {}: {:#}",
                self.id(),
                self.target.public,
                anyhow::Error::new(error)
            );
        }
    }

    async fn plan(&mut self) -> Result<Plan, RunError> {
        let length = self.options.surge();
        let probed_per_s = match offer::is_to_be_probed(&self.options)? {
            true => Some(probe::capacity(self).await?),
            false => None,
        };
        let sign_ups = match probed_per_s {
            Some(probed) => SignUps::Peak(probed * self.options.peak_share()),
            None => SignUps::without_probe(&self.options),
        };
        let offer = Offer::of(&self.options, sign_ups)?;
        // Where several play, each looks at its own part.
        if self.options.workers.count().is_none() {
            let part = self.tie.as_ref().map_or(Part::WHOLE, |tie| tie.part);
            let needs = offer.needs(&self.options, &self.shares, part);
            needs.check(&Machine::here()).map_err(OfferError::from)?;
        }
        let comers = offer.load.curve(Op::SignUp).cloned().unwrap_or_default();
        let highest_second = comers.highest_mean_per_s(Duration::from_secs(1));
        let (replay, peak_per_s, brownout) = match (&self.options.profile, sign_ups) {
            _ if self.options.steady.is_some()
                || self.options.load.trace.is_some()
                || !self.options.load.plays(Op::SignUp) =>
            {
                (Replay::of(comers), highest_second, None)
            }
            // As it was told, to the last digit.
            (Profile::Signal2021, SignUps::Peak(peak)) => {
                (scaled(self.options.column(), length, peak)?, peak, None)
            }
            (Profile::Signal2021, _) => {
                (scaled(self.options.column(), length, highest_second)?, highest_second, None)
            }
            (Profile::ProviderBrownout, SignUps::Peak(full_per_s) | SignUps::Base(full_per_s)) => {
                let brownout = Brownout::new(full_per_s, length);
                (Replay::of(comers), highest_second, Some(brownout))
            }
            (Profile::Pumping, _) => {
                let replay = pumping(length)?;
                let peak_per_s = replay.curve.peak_per_s();
                (replay, peak_per_s, None)
            }
            _ => (Replay::of(comers), highest_second, None),
        };
        let admit_per_s = self.options.admit().map(|share| share * peak_per_s);
        let sends_in_background = offer.sends_in_background();
        Ok(Plan {
            load: offer.load,
            sends_in_background,
            replay,
            probed_per_s,
            peak_per_s,
            admit_per_s,
            brownout,
        })
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

fn id_of(seed: u64, started: Timestamp) -> u64 {
    seed ^ started.as_micros()
}

fn what_is_played(options: &RunOptions) -> String {
    match (&options.load.trace, &options.profile) {
        _ if options.steady.is_some() => STEADY.to_owned(),
        (Some(path), _) => format!("the trace {}", path.display()),
        (None, Profile::Signal2021) => "January 2021".to_owned(),
        (None, other) => other.name().to_owned(),
    }
}

/// Of the run: the profile, or the name of the trace without what it ends with.
fn folder_name(options: &RunOptions) -> String {
    if options.steady.is_some() {
        return STEADY.replace(' ', "-");
    }
    let trace = options.load.trace.as_deref().and_then(|path| path.file_name()?.to_str());
    match trace.and_then(|name| name.split('.').next()) {
        Some(name) => format!("trace-{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")),
        None => options.profile.folder_name(),
    }
}

fn habits(profile: &Profile) -> Habits {
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
