//! `surge search`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{RunOptions, positive};
use crate::gates::{Kind, Metric, Rule};
use crate::offer::OfferError;
use crate::profile::Profile;
use crate::run::{self, RunError, SURGE};
use crate::run_folder::{RunFolder, RunFolderError};
use crate::search::{self, Bounds, Ending, Found, Purpose, TrialVerdict};
use crate::slo::{ExitCode, Verdict};
use crate::summary::{EXISTING_SEND, SIGN_UP};

#[derive(Clone, Debug, Args)]
pub struct SearchOptions {
    /// Which rate is searched: existing users' sends, or sign-ups
    #[arg(long = "of", value_enum, default_value_t)]
    pub of: Searched,
    /// Lowest rate a second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50.0, value_parser = positive)]
    pub min: f64,
    /// Highest rate a second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50_000.0, value_parser = positive)]
    pub max: f64,
    /// Seconds of load of a trial
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    pub trial: u64,
    /// Seconds of load of the trial that confirms the rate
    #[arg(long, value_name = "SECONDS", default_value_t = 45, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub confirm: u64,
    /// Per cent to which the rate is searched
    #[arg(long, value_name = "PER_CENT", default_value_t = 5.0, value_parser = positive)]
    pub tolerance: f64,
    /// Do not look beyond the knee
    #[arg(long)]
    pub no_beyond: bool,
    /// Everything else is as in a run: gates, target, existing users
    #[command(flatten)]
    pub run: RunOptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Searched {
    #[default]
    Send,
    Signup,
}

/// A load that is the same all the time, for a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steady {
    pub sends_per_s: f64,
    pub sign_ups_per_s: f64,
}

#[derive(Debug, thiserror::Error)]
enum SearchError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    #[error("a search offers one rate after another: leave out --profile, --trace, --harm and --dry-run")]
    Steady,
    #[error("--min {min} is above --max {max}")]
    Bounds { min: f64, max: f64 },
}

/// What else is sent while sign-ups are searched for, so that there are existing users to notice.
const OTHER_SENDS_PER_S: f64 = 20.0;

pub(super) async fn search(options: &SearchOptions) -> ExitCode {
    match found(options).await {
        Ok((found, folder)) => {
            print(options, &found, &folder);
            match found.ending {
                Ending::Knee | Ending::AboveMax => ExitCode::Pass,
                Ending::BelowMin | Ending::Unconfirmed => ExitCode::ObjectiveMissed,
                Ending::GeneratorLimit => ExitCode::GeneratorOverloaded,
                Ending::Interrupted => ExitCode::Interrupted,
            }
        }
        Err(SearchError::Run(error)) => {
            let code = error.exit_code();
            super::folders::failed(error);
            code
        }
        Err(error) => super::folders::failed(error),
    }
}

async fn found(options: &SearchOptions) -> Result<(Found, PathBuf), SearchError> {
    if options.min > options.max {
        return Err(SearchError::Bounds { min: options.min, max: options.max });
    }
    if options.run.profile != Profile::default()
        || options.run.load.trace.is_some()
        || options.run.load.dry_run
        || options.run.harm
    {
        return Err(SearchError::Steady);
    }
    let bounds = Bounds {
        min_per_s: options.min,
        max_per_s: options.max,
        tolerance: options.tolerance / 100.0,
        beyond: !options.no_beyond,
    };
    let rules = options.run.asked.read().map_err(RunError::from)?.rules;
    let limit = limit(options, &rules);
    let seed = options.run.seed();
    let mut number = 0;
    let found = search::search(bounds, async |rate, purpose| {
        number += 1;
        println!(
            "trial {number}: {rate:.0}/s{}",
            if purpose == Purpose::Confirm { ", to confirm" } else { "" }
        );
        let trial = trial(options, rate, purpose, seed + number, limit).await?;
        println!(
            "         {:?}, {:.0}/s done in time, p99 {}",
            trial.verdict,
            trial.goodput_per_s,
            trial.p99_ms.map_or_else(|| "not measured".to_owned(), |ms| format!("{ms:.1} ms"))
        );
        Ok::<_, SearchError>(trial)
    })
    .await?;
    let folder = options.run.out.join(format!("search-{seed}.json"));
    let text = serde_json::to_string_pretty(&found).expect("what was found has only names and numbers");
    std::fs::write(&folder, text + "\n")
        .map_err(|source| RunFolderError::Write { path: folder.clone(), source })?;
    Ok((found, folder))
}

fn operation(options: &SearchOptions) -> &'static str {
    match options.of {
        Searched::Send => EXISTING_SEND.0,
        Searched::Signup => SIGN_UP.0,
    }
}

/// What counts as in time: the strictest gate on the operation's response time.
fn limit(options: &SearchOptions, rules: &[Rule]) -> Option<Duration> {
    let wanted = operation(options);
    let of = |rule: &Rule| match &rule.metric {
        Metric::Latency { operation, kind: Kind::Response, .. } if operation == wanted => {
            Some(rule.threshold)
        }
        _ => None,
    };
    let strictest = rules.iter().filter_map(of).reduce(f64::min)?;
    Duration::try_from_secs_f64(strictest / 1_000.0).ok()
}

async fn trial(
    options: &SearchOptions,
    rate: f64,
    purpose: Purpose,
    seed: u64,
    limit: Option<Duration>,
) -> Result<search::Trial, SearchError> {
    let steady = match options.of {
        Searched::Send => Steady { sends_per_s: rate, sign_ups_per_s: 0.0 },
        Searched::Signup => Steady { sends_per_s: OTHER_SENDS_PER_S, sign_ups_per_s: rate },
    };
    let seconds = if purpose == Purpose::Confirm { options.confirm } else { options.trial };
    let run = RunOptions {
        seconds: Some(seconds),
        // Enough to say what is usual.
        calm: 3,
        seed: Some(seed),
        sends: steady.sends_per_s,
        steady: Some(steady),
        ..options.run.clone()
    };
    let (summary, folder) = match Box::pin(run::measure(&run)).await {
        // Of such a rate nothing is known of the service.
        Err(RunError::Offer(OfferError::NotEnough(error))) => {
            println!("         {error}");
            return Ok(search::Trial {
                rate_per_s: rate,
                verdict: TrialVerdict::Invalid,
                goodput_per_s: 0.0,
                p99_ms: None,
                folder: String::new(),
            });
        }
        measured => measured?,
    };
    let recording = folder.recording()?;
    let figures = recording.figures(operation(options), |row| row.phase == SURGE);
    let in_time = match limit {
        // Refusals and failures are not in the histogram of successes alone: what failed in time is taken off.
        Some(limit) => figures.response.count_within(limit).saturating_sub(figures.failed).min(figures.ok),
        None => figures.ok,
    };
    let verdict = match summary.verdict {
        Verdict::Pass => TrialVerdict::Held,
        Verdict::Fail => TrialVerdict::Missed,
        Verdict::Invalid => TrialVerdict::Invalid,
        Verdict::Interrupted => TrialVerdict::Interrupted,
    };
    Ok(search::Trial {
        rate_per_s: rate,
        verdict,
        goodput_per_s: in_time as f64 / seconds as f64,
        p99_ms: figures.response.quantile_ms(0.99),
        folder: RunFolder::path(&folder).display().to_string(),
    })
}

fn print(options: &SearchOptions, found: &Found, file: &std::path::Path) {
    println!("\n{:>10} {:>12} {:>12}  verdict", "offered/s", "in time/s", "p99");
    let mut trials = found.trials.clone();
    trials.sort_by(|a, b| a.rate_per_s.total_cmp(&b.rate_per_s));
    for trial in &trials {
        let p99 = trial.p99_ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1} ms"));
        println!("{:>10.0} {:>12.0} {p99:>12}  {:?}", trial.rate_per_s, trial.goodput_per_s, trial.verdict);
    }
    let what = match options.of {
        Searched::Send => "sends",
        Searched::Signup => "sign-ups",
    };
    let sustainable =
        found.sustainable_per_s.map_or_else(|| "none".to_owned(), |rate| format!("{rate:.0}/s"));
    println!("\n{}", file.display());
    println!(
        "{}",
        match found.ending {
            Ending::Knee =>
                format!("Sustainable: {sustainable} {what}, confirmed over {} s.", options.confirm),
            Ending::AboveMax => format!("Even --max held: {sustainable} {what}. The knee is above it."),
            Ending::BelowMin => "Even --min missed a gate. The knee is below it.".to_owned(),
            Ending::GeneratorLimit => format!(
                "The load tool gave out before the service did; {sustainable} {what} held. Run it on a machine of its own."
            ),
            Ending::Unconfirmed => "No rate that held in a short trial held in a long one.".to_owned(),
            Ending::Interrupted => format!("Interrupted; {sustainable} {what} held so far."),
        }
    );
}
