//! The same run twice: without the rude, and with them.

use super::{RunError, measure, shares};
use crate::cli::RunOptions;
use crate::harm::Seen;
use crate::run_folder::RunFolder;
use crate::slo::Verdict;
use crate::summary::Summary;

/// What a run is compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Alone {
    pub folder: String,
    pub seen: Seen,
}

/// Plays it without the rude and then with them. What is returned is the second run, or the first where it was interrupted.
pub(super) async fn measure_both(options: &RunOptions) -> Result<(Summary, RunFolder), RunError> {
    if !shares(options, &options.asked.read()?).has_rude() {
        return Err(RunError::Harmless);
    }
    say(options, "first without the rude");
    let (alone, folder) = measure(&RunOptions { silent: true, ..options.clone() }).await?;
    if alone.verdict == Verdict::Interrupted {
        return Ok((alone, folder));
    }
    say(options, "and now with them");
    // What was probed is not probed again, so that both are offered the same.
    let peak_rate = match alone.peak.probed_sign_ups_per_s {
        Some(_) => folder.manifest()?.peak_rate,
        None => options.peak_rate,
    };
    let alone = Alone {
        folder: folder.path().display().to_string(),
        seen: Seen::of(&alone.existing, &alone.operations),
    };
    measure(&RunOptions { peak_rate, alone: Some(alone), ..options.clone() }).await
}

fn say(options: &RunOptions, text: &str) {
    if !options.quiet {
        eprintln!("surge: {text}");
    }
}
