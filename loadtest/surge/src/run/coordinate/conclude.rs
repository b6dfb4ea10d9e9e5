//! What comes of a run that several played.

use super::Coordinator;
use super::watching::Watching;
use crate::manifest::Manifest;
use crate::retold::{self, Ended, Whole};
use crate::run::RunError;
use crate::run_folder::{RunFolder, RunFolderError};
use crate::slo::{ExitCode, Verdict};
use crate::summary::Summary;
use crate::timeline::Row;
use crate::workers::Worker;

impl Coordinator {
    pub(super) fn conclude(
        &mut self,
        watching: Watching,
        folder: &RunFolder,
        mut manifest: Manifest,
    ) -> Result<Summary, RunError> {
        let Watching { mut own, events, aborted, failed, .. } = watching;
        for worker in &self.staff.workers {
            own.merge(&worker.recording);
        }
        own.add_events(events);
        manifest.workers = self.staff.summaries();
        folder.write_manifest(&manifest)?;
        folder.write_recording(&own, self.run.started)?;
        let nobody_is_left = self.staff.here().next().is_none();
        let missing = nobody_is_left || self.staff.here().any(|worker| worker.done.is_none());
        let withheld = self.staff.withheld(&self.run.world.crowd);
        let (counts, interrupted) = (self.staff.counts(), self.run.is_interrupted());
        let alone = self.run.options.alone.clone();
        let whole = Whole { counts, interrupted, aborted, withheld, alone };
        let mut summary =
            retold::summary(&manifest, &own, &Ended::Whole(Box::new(whole))).map_err(|error| {
                RunFolderError::Gate { path: folder.path().to_owned(), error: Box::new(error) }
            })?;
        let missing = missing.then(|| "A worker did not tell how its part ended.".to_owned());
        let is_cut = |worker: &&Worker| worker.done.as_ref().is_some_and(|done| done.interrupted);
        let cut = self.staff.here().find(is_cut).map(|worker| {
            format!(
                "Worker {} on {} was stopped before the end of its part.",
                worker.number, worker.hello.host
            )
        });
        let missing = missing.or(cut);
        if let Some(headline) = failed.or(missing)
            && summary.exit_code != ExitCode::Interrupted
        {
            (summary.verdict, summary.exit_code) = (Verdict::Invalid, ExitCode::Partial);
            summary.headline = headline;
            summary.generator.valid = false;
        }
        // The panel is done: a terminal that went away no longer matters.
        self.run.progress.finish().ok();
        let rows: Vec<Row> = own.into_rows();
        folder.write(&summary, &rows)?;
        Ok(summary)
    }
}
