//! What one worker plays of a run.

use std::time::Duration;

use spillway_types::Timestamp;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::{Beginning, Run, RunError, arrivals, conclusion, interrupts, people};
use crate::cli::RunOptions;
use crate::codes::Phones;
use crate::gates::{Check, GateFile};
use crate::manifest::Manifest;
use crate::run_folder::RunFolder;
use crate::summary::Summary;
use crate::target::Target;
use crate::workers::{Session, Tie};
use crate::workload::Somebody;

/// To be there when it begins.
const AT_THE_LINE: Duration = Duration::from_millis(100);

/// Plays it in time with the others and keeps it in its own folder, with the gates by which all of it is judged. The options are the coordinator's,
/// with the worker's target.
///
/// # Errors
///
/// When the part could not be played.
pub(crate) async fn play(
    options: RunOptions,
    started: Timestamp,
    target: Target,
    tie: Tie,
    session: &mut Session,
    (folder, gates): (&RunFolder, &[Check]),
) -> Result<Summary, RunError> {
    super::check_shared_target(&options).await?;
    let beginning = Beginning {
        started,
        target,
        carrier: None,
        phones: Phones::of_part(),
        tasks: JoinSet::new(),
        // A part of the people proves nothing about all of them, so nothing is judged but that nothing is lost.
        asked: GateFile { defaults: false, ..GateFile::default() },
        tie: Some(tie),
        interrupts: interrupts()?,
    };
    let mut run = Run::new(options, beginning).await?;
    let lives = people::sign_up(&mut run).await?;
    let own: Vec<_> = lives.iter().map(|life| life.user().contact()).collect();
    let all = session.exchange(&own).await?;
    let people = people::begin(&mut run, lives, all);
    let plan = run.plan().await?;
    folder.write_manifest(&Manifest { gates: gates.to_vec(), ..conclusion::manifest(&run, &plan) })?;
    if let Some(tie) = &run.tie {
        session.tell(tie.spool.clone());
    }
    let begins = session.begins().await?;
    // What people do to come online is not of the run.
    sleep_until(begins.checked_sub(AT_THE_LINE).unwrap_or(begins)).await;
    let mut measured = arrivals::replay(&mut run, &plan, &people, folder, begins).await?;
    // Ticks that were told are those that were written.
    if let Some(unwritten) = measured.unwritten.take() {
        return Err(unwritten.into());
    }
    let (summary, rows) = conclusion::conclude(&run, &plan, measured);
    folder.write_outputs(&summary, &rows)?;
    Ok(summary)
}
