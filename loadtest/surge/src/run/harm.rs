//! The same run twice: without the rude, and with them.

use spillway_types::random_bytes;

use super::{RunError, coordinate, measure, shares};
use crate::cli::RunOptions;
use crate::harm::Seen;
use crate::run_folder::RunFolder;
use crate::slo::ExitCode;
use crate::summary::Summary;

/// What a run is compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Alone {
    pub folder: String,
    pub seen: Seen,
}

/// Plays it without the rude and then with them. What is returned is the second run, or the first where it was interrupted or lost a worker.
pub(super) async fn measure_both(options: &RunOptions) -> Result<(Summary, RunFolder), RunError> {
    if !shares(options, &options.asked.read()?).has_rude() {
        return Err(RunError::Harmless);
    }
    let mut options = options.clone();
    if options.workers.count().is_some() {
        // Both halves are found by a name of their own, so that nothing of the first is heard in the second.
        options.workers.run.get_or_insert_with(name);
    }
    say(&options, "first without the rude");
    let (alone, folder) = half(&RunOptions { silent: true, ..options.clone() }).await?;
    if matches!(alone.exit_code, ExitCode::Interrupted | ExitCode::Partial) {
        return Ok((alone, folder));
    }
    say(&options, "and now with them");
    options.workers.run = options.workers.run.as_deref().map(second_half);
    // What was probed is not probed again, so that both are offered the same.
    let peak_rate = match alone.peak.probed_sign_ups_per_s {
        Some(_) => folder.manifest()?.peak_rate,
        None => options.peak_rate,
    };
    let alone = Alone {
        folder: folder.path().display().to_string(),
        seen: Seen::of(&alone.existing, &alone.operations),
    };
    half(&RunOptions { peak_rate, alone: Some(alone), ..options }).await
}

async fn half(options: &RunOptions) -> Result<(Summary, RunFolder), RunError> {
    match options.workers.count() {
        Some(workers) => Box::pin(coordinate::measure(options, workers)).await,
        None => measure(options).await,
    }
}

/// What a run is called by its workers, where nobody named it.
pub(super) fn name() -> String {
    format!("{:08x}", u32::from_be_bytes(random_bytes()))
}

/// What the run with the rude is called, after that without them.
pub(super) fn second_half(name: &str) -> String {
    format!("{name}-rude")
}

fn say(options: &RunOptions, text: &str) {
    if !options.quiet {
        eprintln!("surge: {text}");
    }
}
