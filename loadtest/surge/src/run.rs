//! A run from beginning to end: a target, people, a probe, calm, the surge, and the verdict.

mod actors;
mod arrivals;
mod begin;
mod brownout;
mod check;
mod conclusion;
mod coordinate;
mod error;
mod gates;
mod harm;
mod inherited;
mod late;
mod overflow;
mod own_server;
mod part;
mod people;
mod plan;
mod planned;
mod probe;
mod recorder;
mod room;
mod settle;
mod start;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use spillway_types::{Clock, SystemClock, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admin::Admin;
use crate::carrier::Carrier;
use crate::cli::RunOptions;
use crate::codes::Phones;
use crate::cohorts::Shares;
use crate::faults::Fault;
use crate::gates::Rule;
use crate::observe::Observer;
use crate::offer::{self, Offer, OfferError, SignUps};
use crate::peer::{self, Address, Peer, Terms};
use crate::plan::Machine;
use crate::profile::Profile;
use crate::progress::Progress;
use crate::run_folder::RunFolder;
use crate::server::ServerProcess;
use crate::slo::ExitCode;
use crate::summary::Summary;
use crate::target::Target;
use crate::workers::{Part, Tie, WorkersError};
use crate::workload::World;
use begin::{Beginning, interrupts};
pub(crate) use check::shares;
use check::{check_faults, check_shared_target, check_target, same_as_before, warn_of};
pub use error::RunError;
use people::Everybody;
pub(crate) use plan::Plan;

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
/// How long what is on its way at the end may take to arrive.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// After that nobody sends, and what was acknowledged at the last moment has so long to arrive.
const QUIET_MAX: Duration = Duration::from_secs(10);

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
        (_, true) => Box::pin(harm::measure_both(options)).await?,
        (Some(workers), false) => Box::pin(coordinate::measure(options, workers)).await?,
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
    check_faults(options, &asked.faults)?;
    warn_of(options, &asked);
    let started = options.continued.as_ref().map_or_else(|| SystemClock.now(), |continued| continued.started);
    if options.profile.plays_provider() && !options.target.is_empty() {
        return Err(RunError::OwnServerNeeded);
    }
    let peer = check_target(options).await?;
    if let Some(peer) = &peer {
        peer::check(options, &asked, peer)?;
    }
    Observer::check(&options.server_pid, &options.asked.observe).await?;
    // Refused before anything is started, as far as it can be known.
    if offer::is_to_be_probed(options)? {
        offer::behaviour(options)?;
    } else {
        let offer = Offer::of(options, SignUps::without_probe(options))?;
        offer.needs(options, &of_run, Part::WHOLE).check(&Machine::here()).map_err(OfferError::from)?;
    }
    let interrupts = interrupts()?;
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
        let beginning =
            Beginning { started, target, carrier: None, phones, tasks, asked, tie: None, interrupts };
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
    let beginning = Beginning { started, target, carrier, phones, tasks, asked, tie: None, interrupts };
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
        let mut measured = measured?;
        let unwritten = measured.unwritten.take();
        let (summary, rows) = conclusion::conclude(&self, &plan, measured);
        // The panel is done: a terminal that went away no longer matters.
        self.progress.finish().ok();
        match unwritten.map_or_else(|| folder.write(&summary, &rows), Err) {
            Ok(()) => Ok(summary),
            Err(source) => {
                // What the folder cannot keep is at least shown.
                conclusion::print(&summary, folder);
                Err(RunError::Unwritten { code: summary.exit_code, source })
            }
        }
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
