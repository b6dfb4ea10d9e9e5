//! Figures of a run, with those of the part before it was continued.

use std::collections::BTreeMap;

use crate::recording::{Figures, Recording};
use crate::run::Run;
use crate::stats::{Operation, Stats};
use crate::summary::OperationSummary;

/// What this process saw, and what it continues.
pub(in crate::run) struct Figured<'a> {
    pub(super) stats: &'a Stats,
    pub(super) earlier: Option<&'a Recording>,
}

pub(super) fn earlier(run: &Run) -> Option<&Recording> {
    run.options.continued.as_ref().map(|continued| &*continued.earlier)
}

impl Figured<'_> {
    /// Of the whole measured part.
    pub(in crate::run) fn of(&self, operation: Operation) -> Figures {
        let before = |earlier: &Recording| earlier.figures(operation.0, |_| true);
        let mut figures = self.earlier.map(before).unwrap_or_default();
        figures.add_totals(&self.stats.totals(operation));
        figures
    }

    pub(super) fn of_phase(&self, operation: Operation, phase: &str) -> Figures {
        self.of_phases(operation, |name| name == phase)
    }

    pub(super) fn of_phases(&self, operation: Operation, which: impl Fn(&str) -> bool) -> Figures {
        let before = |earlier: &Recording| earlier.figures(operation.0, |row| which(&row.phase));
        let mut figures = self.earlier.map(before).unwrap_or_default();
        for phase in self.stats.phases().iter().filter(|phase| which(phase.name)) {
            figures.add_totals(&self.stats.totals_in(operation, phase.name));
        }
        figures
    }

    pub(super) fn operations(&self) -> BTreeMap<String, OperationSummary> {
        let before = |earlier: &Recording| {
            let operations = earlier.operations().into_iter();
            operations.map(|operation| (operation.clone(), earlier.figures(&operation, |_| true))).collect()
        };
        let mut all: BTreeMap<String, Figures> = self.earlier.map(before).unwrap_or_default();
        for operation in self.stats.operations() {
            all.entry(operation.0.to_owned()).or_default().add_totals(&self.stats.totals(operation));
        }
        all.iter().map(|(operation, figures)| (operation.clone(), figures.into())).collect()
    }
}
