//! The command line.

mod asked;
mod cohorts;
mod compare;
mod folders;
pub(crate) mod load;
mod merge;
mod peers;
mod profiles;
mod search;
mod trace;
mod workers;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use spillway_types::random_bytes;

pub use asked::{AskedError, AskedOptions};
pub use compare::CompareOptions;
pub use folders::{Continued, ResumeError, ResumeOptions};
pub use load::{BaseRate, Clip, LoadOptions, OnOverflow, PlanOptions, ReplayOptions, Within};
pub use merge::{MergeError, MergeOptions};
pub use peers::PeersOptions;
pub use search::{SearchOptions, Steady};
pub use workers::{LostWorker, WorkerOptions, WorkersOptions};

use crate::cohorts::Shares;
use crate::curve::Column;
use crate::language::Expression;
use crate::profile::Profile;
use crate::room_million;
use crate::run::{self, Alone};
use crate::simulate;
use crate::slo;
use crate::workers as workers_of_a_run;

#[derive(Debug, Parser)]
#[command(
    name = "surge",
    version,
    about = "Replays a sign-up surge against a messaging service, and says whether anybody noticed",
    after_help = EXIT_CODES,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunOptions,
}

const EXIT_CODES: &str = "\
Exit status: 0 pass; 1 wrong usage; 2 target unreachable; 3 an objective was missed; 4 a gate ended the run; 5 the generator was \
overloaded, so the run says nothing; 6 part of what was to be merged is missing; 7 messages were lost, repeated or changed; 130 interrupted (the report is still written).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Replay the surge (what `surge` does without a subcommand)
    Run(Box<RunOptions>),
    /// Play overload scenarios in virtual time, ours beside other laws of admission
    Simulate(SimulateOptions),
    /// Draw what a run would offer and say what it needs, without running it
    Plan(Box<PlanOptions>),
    /// List the profiles, or show one
    Profiles(profiles::ProfilesOptions),
    /// List the cohorts of clients that do not behave, or show one
    Cohorts(cohorts::CohortsOptions),
    /// Make traces, and look at them
    Trace(Box<trace::TraceOptions>),
    /// Write the report of an earlier run again
    Report {
        /// The run's folder
        #[arg(default_value = "target/surge/latest")]
        folder: PathBuf,
    },
    /// Add up runs that took place beside each other, losing nothing
    Merge(MergeOptions),
    /// Continue a run that was killed, from its last complete second
    Resume(ResumeOptions),
    /// Say whether B is faster or slower than A, and how sure that is
    Compare(CompareOptions),
    /// Play the same load against several systems, one after the other, and say what their figures are worth
    Peers(Box<PeersOptions>),
    /// Find the highest rate at which the gates hold
    Search(Box<SearchOptions>),
    /// Play a part of a run that `surge run --workers` coordinates, and end
    Worker(WorkerOptions),
}

/// What a simulation is told.
#[derive(Clone, Debug, Args)]
pub struct SimulateOptions {
    /// Scenario to play: a TOML file, the name of one that ships with the simulator, or `autoscale`, which compares autoscalers over hours of a surge
    #[arg(required_unless_present = "suite", conflicts_with = "suite")]
    pub file: Option<PathBuf>,
    /// Set of shipped scenarios to play: acceptance or reduced
    #[arg(long, value_name = "NAME")]
    pub suite: Option<String>,
    /// The same seed gives the same outcome
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the folder with the outcome goes
    #[arg(long, value_name = "FOLDER", default_value = "target/simulate")]
    pub out: PathBuf,
}

/// What a run is told.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// What to play: a profile by name (`surge profiles` lists them), or a load such as "30s@50,1m@200 then spike(to=20x)"
    #[arg(long, value_name = "PROFILE", default_value = crate::curve::SIGNAL_2021, hide_default_value = false)]
    pub profile: Profile,
    #[command(flatten)]
    pub load: LoadOptions,
    /// Service to test, such as http://127.0.0.1:7700, or its gateways. Without it, one is started for the run. A system to compare with:
    /// nats://127.0.0.1:4222 (JetStream), pg://user:password@127.0.0.1/database, xmpp://127.0.0.1:5222/localhost; for these, name what they can do with --only send
    #[arg(long, value_name = "URL,…", value_delimiter = ',')]
    pub target: Vec<String>,
    /// Where the target's sandbox providers show their codes (the setting `listen.sandbox_codes`)
    #[arg(long, value_name = "URL,…", value_delimiter = ',', default_value = "http://127.0.0.1:7702")]
    pub codes: Vec<String>,
    /// Admin ports of the target, to see and order what its waiting room lets in
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    pub admin: Vec<String>,
    /// Process ids of the target, to read what it costs
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Allow a target that is not on this machine
    #[arg(long)]
    pub i_own_this_target: bool,
    /// Argument for the service that is started for the run; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub server_arg: Vec<OsString>,
    /// Executable of that service. Default: `spillway` beside this program
    #[arg(long, value_name = "FILE")]
    pub server_binary: Option<PathBuf>,

    /// Highest sign-up rate over one second, as a share of the capacity that the probe finds. Default: 0.8, and 0.2 for profiles
    /// that are not about newcomers
    #[arg(long, value_name = "SHARE", value_parser = positive, allow_negative_numbers = true)]
    pub peak: Option<f64>,
    /// Highest sign-up rate per second, instead of a share of a probed capacity
    #[arg(long, value_name = "PER_SECOND", value_parser = positive, allow_negative_numbers = true, conflicts_with = "peak")]
    pub peak_rate: Option<f64>,
    /// Newcomers that the waiting room lets in a second, as a share of the peak. Default: 0.25 for a service that is started for the run, for a
    /// target, and for other profiles and traces, whatever it does by itself
    #[arg(long, value_name = "SHARE", value_parser = positive, allow_negative_numbers = true)]
    pub admit: Option<f64>,
    /// What one code costs, in any currency
    #[arg(long, value_name = "AMOUNT", default_value_t = 0.05, value_parser = positive, allow_negative_numbers = true)]
    pub code_cost: f64,
    /// People of the profile room-million
    #[arg(long, value_name = "PEOPLE", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=4_000_000))]
    pub people: u32,
    /// Seconds into which the load is compressed, at the same rates. Default: 60 for profiles of hours and days, and as long as
    /// they are for others
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(5..=86_400), allow_negative_numbers = true)]
    pub seconds: Option<u64>,
    /// Seconds of ordinary life before it
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600), allow_negative_numbers = true)]
    pub calm: u64,
    /// Replay the figures as they were reported, with their cliff after 17 January, instead of reconciled ones
    #[arg(long)]
    pub as_reported: bool,
    /// People who are there before the surge, all online
    #[arg(long, value_name = "PEOPLE", default_value_t = 300, value_parser = clap::value_parser!(u32).range(2..=100_000), allow_negative_numbers = true)]
    pub existing: u32,
    /// Messages that they send per second, all together
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100.0, value_parser = positive, allow_negative_numbers = true)]
    pub sends: f64,
    /// The same seed gives the same people and the same arrivals. Default: random, and shown
    #[arg(long)]
    pub seed: Option<u64>,

    /// Where run folders go
    #[arg(long, value_name = "FOLDER", default_value = "target/surge")]
    pub out: PathBuf,

    /// Shares of existing users who do not behave, such as hot-loop=5%,never-acks=5%; the rest is polite (`surge cohorts` lists them)
    #[arg(long, value_name = "COHORT=SHARE,…")]
    pub cohorts: Option<Shares>,
    /// Play it twice, first without the rude, and say what they do to the polite
    #[arg(long)]
    pub harm: bool,
    #[command(flatten)]
    pub workers: WorkersOptions,
    #[command(flatten)]
    pub asked: AskedOptions,
    /// Tell Prometheus how the run stands, at http://HOST:PORT/metrics while it goes on
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Show nothing while the run goes on
    #[arg(long)]
    pub quiet: bool,
    /// As it was typed, for the run's folder.
    #[arg(skip)]
    pub command_line: Vec<OsString>,
    #[arg(skip)]
    pub continued: Option<Continued>,
    /// Instead of a profile.
    #[arg(skip)]
    pub steady: Option<Steady>,
    /// The rude do nothing.
    #[arg(skip)]
    pub silent: bool,
    /// The run that it is compared with.
    #[arg(skip)]
    pub alone: Option<Alone>,
}

/// A quarter of the peak: so that people wait in the days around 15 January, and the room is empty again by the end of the month.
const ADMIT: f64 = 0.25;
const PEAK: f64 = 0.8;
/// Into which a profile of hours and days is compressed.
pub(crate) const SECONDS: u64 = 60;

#[cfg(test)]
impl RunOptions {
    /// As somebody types them behind `surge run`.
    pub(crate) fn typed<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            run: RunOptions,
        }
        Line::try_parse_from(["run"].into_iter().chain(words)).unwrap().run
    }
}

impl RunOptions {
    pub(crate) fn column(&self) -> Column {
        if self.as_reported { Column::AsReported } else { Column::Reconciled }
    }

    /// `None`: the room is left as it is.
    pub(crate) fn admit(&self) -> Option<f64> {
        let of_own = self.target.is_empty().then_some(ADMIT);
        let is_recorded = self.load.trace.is_some();
        // A search is about the service and not about its room, which stays open.
        let is_month = self.profile == Profile::Signal2021 && !is_recorded && self.steady.is_none();
        let is_load = self.profile.expression().is_some() || is_recorded;
        self.admit.filter(|_| is_month || is_load).or(of_own.filter(|_| is_month))
    }

    /// Of the profiles that are as long as they are told to be.
    pub(crate) fn surge(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(SECONDS))
    }

    /// Of the probed capacity.
    pub(crate) fn peak_share(&self) -> f64 {
        let entries = self.profile.expression().map(Expression::entries).unwrap_or_default();
        let of_profile = entries.iter().map(|entry| entry.share_of_capacity).reduce(f64::max);
        self.peak.or(of_profile).unwrap_or(PEAK)
    }

    pub(crate) fn seed(&self) -> u64 {
        // Short enough to be typed again.
        self.seed.unwrap_or_else(|| u64::from(u32::from_be_bytes(random_bytes())))
    }
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("must be a number above 0".to_owned()),
    }
}

/// Runs what the command line says; `arguments` begin with the name of the program.
pub async fn main(arguments: impl IntoIterator<Item = OsString>) -> slo::ExitCode {
    let command_line: Vec<OsString> = arguments.into_iter().collect();
    let arguments = match Arguments::try_parse_from(&command_line) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done about a closed terminal.
            error.print().ok();
            return if error.use_stderr() { slo::ExitCode::Usage } else { slo::ExitCode::Pass };
        }
    };
    let typed = |mut options: RunOptions| {
        options.command_line = command_line.iter().skip(1).cloned().collect();
        options
    };
    match arguments.command {
        Some(Command::Report { folder }) => folders::report(folder),
        Some(Command::Merge(options)) => merge::merge(&options),
        Some(Command::Resume(options)) => resume(&options).await,
        Some(Command::Compare(options)) => compare::compare(&options),
        Some(Command::Peers(options)) => Box::pin(peers::peers(&options)).await,
        Some(Command::Search(options)) => Box::pin(search::search(&options)).await,
        Some(Command::Worker(options)) => Box::pin(work(&options)).await,
        Some(Command::Plan(options)) => load::plan(&options),
        Some(Command::Profiles(options)) => profiles::show(&options),
        Some(Command::Cohorts(options)) => cohorts::show(&options),
        Some(Command::Trace(options)) => trace::run(&options),
        Some(Command::Simulate(options)) => play(move || simulate::simulate(&options)).await,
        Some(Command::Run(options)) => run(&typed(*options)).await,
        None => run(&typed(arguments.run)).await,
    }
}

async fn resume(options: &ResumeOptions) -> slo::ExitCode {
    let (manifest, continued) = match folders::continued(&options.folder) {
        Ok(found) => found,
        Err(error) => return folders::failed(error),
    };
    let Ok(options) = run_options(&manifest.arguments) else {
        return folders::failed(ResumeError::Arguments(options.folder.clone()));
    };
    let command_line = manifest.arguments.iter().map(OsString::from).collect();
    let (seed, peak_rate, silent) = (Some(manifest.seed), manifest.peak_rate, manifest.silent);
    // Half of a comparison is none.
    let harm = false;
    run(&RunOptions { seed, peak_rate, silent, harm, command_line, continued: Some(continued), ..options })
        .await
}

/// The options of a run from its command line without the name of the program.
///
/// # Errors
///
/// When it is none that this version understands, with the reason.
pub(crate) fn run_options(arguments: &[String]) -> Result<RunOptions, String> {
    let typed = ["surge".to_owned()].into_iter().chain(arguments.iter().cloned());
    match Arguments::try_parse_from(typed) {
        Ok(Arguments { command: None, run }) => Ok(run),
        Ok(Arguments { command: Some(Command::Run(options)), .. }) => Ok(*options),
        Ok(_) => Err("it is not that of a run".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn work(options: &WorkerOptions) -> slo::ExitCode {
    match workers_of_a_run::work(options).await {
        Ok(code) => code,
        Err(error) => {
            let code = error.exit_code();
            eprintln!("error: {:#}", anyhow::Error::new(error));
            code
        }
    }
}

async fn run(options: &RunOptions) -> slo::ExitCode {
    if options.profile == Profile::RoomMillion && options.workers.count().is_none() {
        let options = options.clone();
        return play(move || room_million::play(&options)).await;
    }
    match Box::pin(run::run(options)).await {
        Ok(code) => code,
        Err(error) => {
            let code = error.exit_code();
            eprintln!("error: {:#}", anyhow::Error::new(error));
            code
        }
    }
}

/// On a thread of its own: it computes for minutes.
async fn play<E>(work: impl FnOnce() -> Result<slo::ExitCode, E> + Send + 'static) -> slo::ExitCode
where
    E: std::error::Error + Send + Sync + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            eprintln!("error: {:#}", anyhow::Error::new(error));
            slo::ExitCode::Usage
        }
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}
