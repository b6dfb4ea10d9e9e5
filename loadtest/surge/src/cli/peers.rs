//! `surge peers`: the same load against several systems, one after the other.

use std::time::Duration;

use clap::Args;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::RunOptions;
use super::compare::line;
use super::folders::failed;
use crate::compare::{self, Finding, Settings};
use crate::curve::Curve;
use crate::load::Op;
use crate::observe::{Source, SourceError};
use crate::offer::{Offer, OfferError, SignUps};
use crate::peer::{Address, AddressError, Class, NotPlayable, Side, check, playable, redacted, rules, table};
use crate::recording::Recording;
use crate::run::{self, RunError};
use crate::run_folder::{RunFolder, RunFolderError};
use crate::slo::{ExitCode, Verdict};
use crate::target::{TargetError, check_loopback};
use crate::workload::is_reachable;

#[derive(Clone, Debug, Args)]
pub struct PeersOptions {
    /// How often each is played, in turns: A B, then B A, and so on. Five and more say how much runs differ
    #[arg(long, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub repeats: u64,
    /// Everything else is as in a run, with a --target for each: `spillway` is one that is started for it. After `#` may be what its cost is read from,
    /// as with --observe: nats://127.0.0.1:4222#pid:1234
    #[command(flatten)]
    pub run: RunOptions,
}

/// One of those that are compared.
#[derive(Clone, Debug)]
struct Contender {
    /// Without a password.
    name: String,
    /// As a run has it; `None` for a Spillway of its own.
    target: Option<String>,
    peer: Option<Address>,
    cost: Vec<Source>,
}

#[derive(Debug, thiserror::Error)]
enum PeersError {
    #[error("name two targets and more, such as --target spillway --target nats://127.0.0.1:4222")]
    Alone,
    #[error("`surge peers` plays what is the same for all: leave out {0}")]
    Option(&'static str),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("what is behind `#` in a target")]
    Source(#[from] SourceError),
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error(transparent)]
    NotPlayable(#[from] NotPlayable),
    #[error(
        "of this load nothing is left that all can play: it has {0} alone. Play another one, such as \"send(60s@100)\""
    )]
    Nothing(String),
    #[error("nobody answers at {0}; is it running?")]
    Unreachable(String),
    #[error("{name}")]
    Run {
        name: String,
        #[source]
        source: Box<RunError>,
    },
    #[error(transparent)]
    Folder(#[from] RunFolderError),
}

/// The word for a Spillway that is started for the run.
const OWN: &str = "spillway";
/// As long as a run waits for somebody to answer at a target.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);
/// What is compared beside the table.
const FIGURES: [&str; 4] = ["send.response.p50", "send.response.p99", "e2e.response.p50", "e2e.response.p99"];
const SETTINGS: Settings = Settings { noise: 0.05, confidence: 0.95, draws: 1_000, seed: 1 };

pub(super) async fn peers(options: &PeersOptions) -> ExitCode {
    match played(options).await {
        Ok(code) => code,
        Err(PeersError::Run { name, source }) => {
            let code = source.exit_code();
            failed(PeersError::Run { name, source });
            code
        }
        Err(error @ PeersError::Unreachable(_)) => {
            failed(error);
            ExitCode::Unreachable
        }
        Err(error) => failed(error),
    }
}

async fn played(options: &PeersOptions) -> Result<ExitCode, PeersError> {
    let contenders = contenders(options)?;
    let (only, left_out) = common(&options.run)?;
    let seed = options.run.seed();
    for contender in &contenders {
        ready(options, contender, &only).await?;
    }
    let mut sides: Vec<Side> = contenders.iter().map(|contender| Side::of(&contender.name)).collect();
    let mut recordings: Vec<Vec<Recording>> = vec![Vec::new(); contenders.len()];
    let mut is_interrupted = false;
    'rounds: for round in 0..options.repeats {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for which in order {
            let contender = &contenders[which];
            println!("\nround {} of {}: {}", round + 1, options.repeats, contender.name);
            // The same people and arrivals for all of a round.
            let run = of(options, contender, &only, seed.wrapping_add(round));
            let named = |source| PeersError::Run { name: contender.name.clone(), source: Box::new(source) };
            let (summary, folder) = run::measure(&run).await.map_err(named)?;
            println!("  {}: {}", summary.verdict.word(), summary.headline);
            println!("  report: {}", folder.report().display());
            is_interrupted = summary.verdict == Verdict::Interrupted;
            recordings[which].push(RunFolder::open(folder.path()).recording()?);
            sides[which].runs.push(summary);
            if is_interrupted {
                break 'rounds;
            }
        }
    }
    println!("\n{}", table(&sides));
    compared(&sides, &recordings);
    println!("\n{}", rules(&sides, &left_out, options.repeats));
    Ok(exit_code(&sides, is_interrupted))
}

fn contenders(options: &PeersOptions) -> Result<Vec<Contender>, PeersError> {
    let run = &options.run;
    let foreign = [
        (run.cohorts.is_some(), "--cohorts"),
        (run.harm, "--harm"),
        (run.workers.count().is_some(), "--workers"),
        (run.admit.is_some(), "--admit"),
        (
            !run.server_pid.is_empty(),
            "--server-pid, and say what a target's cost is read from behind `#` in it",
        ),
        (
            !run.asked.observe.is_empty(),
            "--observe, and say what a target's cost is read from behind `#` in it",
        ),
        (run.load.dry_run, "--dry-run, which `surge plan` is"),
        (run.profile.plays_provider(), "a profile that plays the provider of codes"),
    ];
    if let Some((_, what)) = foreign.into_iter().find(|(is_used, _)| *is_used) {
        return Err(PeersError::Option(what));
    }
    if run.target.len() < 2 {
        return Err(PeersError::Alone);
    }
    run.target.iter().map(|target| Contender::parse(target, run.i_own_this_target)).collect()
}

impl Contender {
    fn parse(text: &str, owned: bool) -> Result<Self, PeersError> {
        let (target, cost) = text.split_once('#').map_or((text, None), |(target, cost)| (target, Some(cost)));
        let cost = cost.map(str::parse).transpose()?.into_iter().collect();
        if target == OWN {
            return Ok(Self {
                name: "spillway, started for this".to_owned(),
                target: None,
                peer: None,
                cost,
            });
        }
        check_loopback(target, owned)?;
        let peer = Address::parse(target)?;
        Ok(Self { name: redacted(target), target: Some(target.to_owned()), peer, cost })
    }

    /// Fit for the name of a folder.
    fn folder_name(&self) -> String {
        let letters = self.name.split(',').next().unwrap_or_default().chars();
        letters.map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect()
    }
}

/// What all can play of the load, and what is left out for that.
fn common(run: &RunOptions) -> Result<(Vec<Op>, Vec<Op>), PeersError> {
    let load = Offer::of(run, SignUps::without_probe(run))?.load;
    let offered = load.curves().filter(|(_, curve)| Curve::total(curve) > 0.0).map(|(op, _)| op);
    let (only, left_out): (Vec<_>, Vec<_>) = offered.partition(|op| playable(*op));
    if only.is_empty() {
        let names: Vec<_> = left_out.iter().map(|op| op.name()).collect();
        return Err(PeersError::Nothing(names.join(" and ")));
    }
    Ok((only, left_out))
}

/// Before anything is played: whether it can be, and whether somebody answers.
async fn ready(options: &PeersOptions, contender: &Contender, only: &[Op]) -> Result<(), PeersError> {
    let unreachable = || PeersError::Unreachable(contender.name.clone());
    match (&contender.peer, &contender.target) {
        (Some(peer), _) => {
            let run = of(options, contender, only, 0);
            let asked = run.asked.read().map_err(|error| PeersError::Run {
                name: contender.name.clone(),
                source: Box::new(error.into()),
            })?;
            check(&run, &asked, peer)?;
            let connecting = TcpStream::connect((peer.host(), peer.port()));
            match timeout(ANSWERS_WITHIN, connecting).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(unreachable()),
            }
        }
        (None, Some(address)) if !is_reachable(address).await => Err(unreachable()),
        (None, _) => Ok(()),
    }
}

/// The run of one of them.
fn of(options: &PeersOptions, contender: &Contender, only: &[Op], seed: u64) -> RunOptions {
    let mut run = options.run.clone();
    run.load.only = only.to_vec();
    run.target = contender.target.iter().cloned().collect();
    run.asked.observe = contender.cost.clone();
    if run.target.is_empty() {
        run.admin = Vec::new();
    } else {
        run.server_binary = None;
        run.server_arg = Vec::new();
    }
    // Only NATS has something to say there; what others would say of themselves is not needed.
    if contender.peer.as_ref().is_none_or(|peer| !peer.reads_admin()) {
        run.admin = Vec::new();
    }
    run.out = run.out.join("peers").join(contender.folder_name());
    RunOptions { seed: Some(seed), ..run }
}

/// Everybody against the first one, where that says something.
fn compared(sides: &[Side], recordings: &[Vec<Recording>]) {
    let (Some(first), Some(of_first)) = (sides.first(), recordings.first()) else { return };
    for (side, of_side) in sides.iter().zip(recordings).skip(1) {
        println!("{} against {}:", side.name, first.name);
        let (a, b) = (first.class(), side.class());
        if a != b || a == Class::Unknown {
            println!(
                "  not compared: an acknowledgement is {} there and {} here, and one that survives more takes longer",
                a.name(),
                b.name()
            );
            continue;
        }
        let figures = FIGURES.iter().filter_map(|text| compare::figure(text).ok()).collect::<Vec<_>>();
        for difference in compare::compare(of_first, of_side, &figures, SETTINGS) {
            if difference.finding != Finding::NotMeasured {
                println!("  {}", line(&difference));
            }
        }
    }
}

/// The gravest of all runs.
fn exit_code(sides: &[Side], is_interrupted: bool) -> ExitCode {
    let mut codes = sides.iter().flat_map(|side| &side.runs).map(|run| run.exit_code);
    match codes.clone().max_by_key(|code| u8::from(*code)) {
        _ if is_interrupted => ExitCode::Interrupted,
        Some(_) if codes.all(|code| code == ExitCode::Pass) => ExitCode::Pass,
        Some(gravest) => gravest,
        None => ExitCode::Pass,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        peers: PeersOptions,
    }

    fn options(line: &str) -> PeersOptions {
        Line::try_parse_from(["surge"].into_iter().chain(line.split('|'))).unwrap().peers
    }

    fn refused(line: &str) -> String {
        contenders(&options(line)).unwrap_err().to_string()
    }

    #[test]
    fn each_target_is_a_contender() {
        let options =
            options("--target|spillway|--target|nats://127.0.0.1:4222#pid:17|--target|pg://a:b@127.0.0.1/c");
        let contenders = contenders(&options).unwrap();
        let names: Vec<_> = contenders.iter().map(|contender| contender.name.as_str()).collect();
        assert_eq!(names, ["spillway, started for this", "nats://127.0.0.1:4222", "pg://a:***@127.0.0.1/c"]);
        assert_eq!(contenders[1].cost, [Source::Pid(17)]);
        let run = of(&options, &contenders[2], &[Op::Send], 7);
        assert_eq!(
            (run.seed, run.target.as_slice()),
            (Some(7), ["pg://a:b@127.0.0.1/c".to_owned()].as_slice())
        );
        assert!(run.out.ends_with("peers/pg---a-----127-0-0-1-c"), "{:?}", run.out);
        assert_eq!(of(&options, &contenders[0], &[], 7).target, Vec::<String>::new());
        assert_eq!(contenders[0].folder_name(), "spillway");
    }

    #[test]
    fn what_is_not_the_same_for_all_is_refused() {
        assert!(refused("--target|spillway").contains("two targets"));
        let two = "--target|spillway|--target|nats://127.0.0.1";
        assert!(refused(&format!("{two}|--server-pid|1")).contains("behind `#`"));
        assert!(refused(&format!("{two}|--cohorts|hot-loop=10%")).contains("--cohorts"));
        assert!(refused(&format!("{two}|--local-workers|2")).contains("--workers"));
        assert!(refused(&format!("{two}|--profile|pumping")).contains("provider"));
        assert!(refused("--target|spillway|--target|nats://192.0.2.1").contains("not on this machine"));
        assert!(refused("--target|spillway|--target|nats://127.0.0.1#cpu:1").contains("behind `#`"));
    }

    #[test]
    fn what_not_all_can_play_is_left_out_for_all() {
        let two = "--target|spillway|--target|nats://127.0.0.1|--profile";
        assert_eq!(
            common(&options(&format!("{two}|steady")).run).unwrap(),
            (vec![Op::Send], vec![Op::SignUp])
        );
        assert_eq!(common(&options(&format!("{two}|send(5s@3)")).run).unwrap(), (vec![Op::Send], vec![]));
        let error = common(&options(&format!("{two}|steady|--only|signup")).run).unwrap_err().to_string();
        assert!(error.contains("it has signup alone"), "{error}");
    }
}
