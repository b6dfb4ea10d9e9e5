//! `surge worker`: waits for a coordinator, plays a part of its run, and ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use spillway_types::Timestamp;
use tokio::time::timeout;

use super::staff::summary_of;
use super::wire::{Assignment, Done};
use super::{Link, Login, Session, Spool, Tie, WorkersError};
use crate::cli::{AskedOptions, RunOptions, WorkerOptions, WorkersOptions};
use crate::run::{self, RunError};
use crate::run_folder::RunFolder;
use crate::slo::{ExitCode, Verdict};
use crate::target::Target;

/// How long a worker waits for the second half of a comparison: the coordinator starts another service for it.
const NEXT_WITHIN: Duration = Duration::from_secs(90);
/// How long a worker waits for a NATS server: whoever starts many machines starts that one late at times.
const SERVER_WITHIN: Duration = Duration::from_secs(600);

/// Works until one run is over, or both of a comparison.
///
/// # Errors
///
/// When the part could not be played.
pub(crate) async fn work(options: &WorkerOptions) -> Result<ExitCode, RunError> {
    let login = Login::new(&options.nats, options.nats_creds.as_deref()).map_err(WorkersError::from)?;
    say(&format!("connects to {}", login.shown()));
    let mut next = one(options, &login, &options.run, None).await?;
    while let Some(run) = next {
        next = one(options, &login, &run, Some(NEXT_WITHIN)).await?;
    }
    Ok(ExitCode::Pass)
}

/// Plays a part of one run; returns the name of the run that is to be played after it. A coordinator that was heard before is not waited for longer
/// than `patience`.
async fn one(
    options: &WorkerOptions,
    login: &Login,
    run: &str,
    patience: Option<Duration>,
) -> Result<Option<String>, RunError> {
    let link = Link::connect(login, run, SERVER_WITHIN).await.map_err(WorkersError::from)?;
    let waits = || {
        let address = login.shown();
        say(&format!(
            "waits for the coordinator of the run `{run}`: surge run --workers … --nats {address} --run {run}"
        ));
    };
    let begun = Session::begin(link, waits);
    let mut session = match patience {
        None => begun.await?,
        Some(patience) => {
            timeout(patience, begun).await.map_err(|_| WorkersError::NoCoordinator(patience.as_secs()))??
        }
    };
    let offset = session.hello.clock;
    say(&format!(
        "is number {}; its clock is {:.3} ms off (round trip {:.3} ms)",
        session.number,
        offset.micros as f64 / 1_000.0,
        offset.round_trip_micros as f64 / 1_000.0
    ));
    let (assignment, run_options) =
        session.assignment(|assignment| part_of(assignment, &options.out)).await?;
    let played = play(&mut session, &assignment, run_options).await;
    if let Err(error) = &played {
        session.fail(&error.to_string()).await;
    }
    played.map(|()| assignment.then)
}

fn say(text: &str) {
    eprintln!("surge worker: {text}");
}

async fn play(session: &mut Session, assignment: &Assignment, options: RunOptions) -> Result<(), RunError> {
    let Assignment { worker, of_workers, part, .. } = *assignment;
    eprintln!("surge worker: plays {part} of the run, as {worker} of {of_workers}");
    let started = Timestamp::from_micros(assignment.started_micros);
    let folder = RunFolder::create(&options.out, started, &format!("worker-{worker}"))?;
    let spool = Arc::new(Spool::of(worker));
    let mut summary = summary_of(worker, &session.hello, part, options.existing);
    summary.folder = folder.path().display().to_string();
    let tie = Tie::new(part, session.hello.clock, spool.clone(), summary, session.orders.clone());
    let target = Target {
        public: assignment.target.clone(),
        codes: assignment.codes.clone(),
        admin: Vec::new(),
        pids: Vec::new(),
    };
    let own = Box::pin(run::play_part(options, started, target, tie, session, (&folder, &assignment.gates)))
        .await?;
    let done = Done {
        worker,
        last: spool.last(),
        counts: own.ledger,
        folder: folder.path().display().to_string(),
        interrupted: own.verdict == Verdict::Interrupted,
    };
    if session.done(&spool, &done).await {
        println!("{}", folder.path().display());
    } else {
        println!(
            "the coordinator did not confirm the end. What this worker saw is in {}; `surge merge` with the folders of the others makes the run of it",
            folder.path().display()
        );
    }
    Ok(())
}

/// The options of a run as this worker plays it: the coordinator's, without what the coordinator does itself.
fn part_of(assignment: &Assignment, out: &Path) -> Result<RunOptions, WorkersError> {
    let options = crate::cli::run_options(&assignment.arguments).map_err(WorkersError::Arguments)?;
    if let (Some(path), Some(hash)) = (&options.load.trace, &assignment.trace)
        && hash_of(path).as_ref() != Some(hash)
    {
        return Err(WorkersError::OtherTrace { path: path.display().to_string() });
    }
    let cohorts =
        assignment.cohorts.parse().map_err(|error| WorkersError::Arguments(format!("--cohorts: {error}")))?;
    Ok(RunOptions {
        seed: Some(assignment.seed),
        target: assignment.target.split(',').map(str::to_owned).collect(),
        codes: assignment.codes.clone(),
        i_own_this_target: assignment.owned,
        // Rooms, gates, faults and the cost of the service are the coordinator's.
        admin: Vec::new(),
        server_pid: Vec::new(),
        admit: None,
        asked: AskedOptions::default(),
        harm: false,
        silent: assignment.silent,
        cohorts: Some(cohorts),
        workers: WorkersOptions::default(),
        quiet: true,
        out: out.to_owned(),
        command_line: assignment.arguments.iter().map(Into::into).collect(),
        ..options
    })
}

/// Of a trace, which is too large to be sent around.
pub(crate) fn hash_of(path: &PathBuf) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(path).ok()?, &mut hasher).ok()?;
    Some(hasher.finalize().to_hex().to_string())
}
