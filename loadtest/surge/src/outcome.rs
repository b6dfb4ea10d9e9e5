//! What follows from the figures of a run, the same for one that ends, one that was killed, and several that were merged.

mod cohorts;

use std::collections::BTreeMap;

pub(crate) use cohorts::{Acting, cohorts};

use crate::cohorts::Cohort;
use crate::faults::Recovery;
use crate::ledger::Counts;
use crate::slo::{Observations, figure};
use crate::summary::{Codes, Existing, Generator, OperationSummary, SIGN_UP, Server};
use crate::timeline::Row;
use crate::workload::{BACK, BACKLOG, DELIVER, FINISH_SIGN_UP, PUMP, RECEIVE_CODE};

/// What every run is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome<'a> {
    /// Of the messages. `None` while some may be on their way: then nothing is said about losses.
    pub(crate) sent: Option<Counts>,
    pub(crate) existing: &'a Existing,
    pub(crate) sign_up_success_ratio: Option<f64>,
    pub(crate) codes: &'a Codes,
    pub(crate) lag_p99_ms: Option<f64>,
    pub(crate) rows: &'a [Row],
    pub(crate) server: &'a Server,
    pub(crate) recoveries: &'a [Recovery],
}

impl Outcome<'_> {
    pub(crate) fn observations(&self) -> Observations {
        let of_sent = |count: fn(&Counts) -> u64| self.sent.as_ref().map(|counts| count(counts) as f64);
        let mut observed = Observations::default();
        observed
            .set(figure::LEDGER_LOST, of_sent(|counts| counts.lost))
            .set(figure::LEDGER_DUPLICATED, of_sent(|counts| counts.duplicated))
            .set(figure::LEDGER_CORRUPTED, of_sent(|counts| counts.corrupted))
            .set(figure::LEDGER_REORDERED, of_sent(|counts| counts.reordered))
            .set(figure::LEDGER_ACKED, of_sent(|counts| counts.acked))
            .set(figure::LEDGER_WITHHELD, of_sent(|counts| counts.withheld))
            .set(figure::LEDGER_REPEATED, of_sent(|counts| counts.repeated))
            .set(figure::LEDGER_DELIVERED, of_sent(|counts| counts.delivered))
            .set(figure::EXISTING_SUCCESS_RATIO, self.existing.send_success_ratio)
            .set(figure::EXISTING_P99_MS, self.existing.send_p99_ms)
            .set(figure::EXISTING_P99_BEFORE_MS, self.existing.send_p99_ms_before_surge)
            .set(figure::SIGN_UP_SUCCESS_RATIO, self.sign_up_success_ratio)
            .set(figure::CODES_PER_ACCOUNT, self.codes.per_account)
            .set(figure::GENERATOR_LAG_P99_MS, self.lag_p99_ms)
            .set(figure::GENERATOR_STEAL_RATIO, generator(true, self.lag_p99_ms, self.rows).steal_ratio)
            .set(figure::GENERATOR_DROPPED, Some(generator(true, None, self.rows).dropped as f64))
            .set(figure::SERVER_CPU_US_PER_OP, self.server.cpu_us_per_op)
            .set(figure::SERVER_BYTES_PER_SESSION, self.server.bytes_per_session)
            .set(figure::FAULT_RECOVERY_MS, slowest_ms(self.recoveries));
        observed
    }
}

/// One that did not end is longer than any number, and one that never happened is none.
fn slowest_ms(recoveries: &[Recovery]) -> Option<f64> {
    let of = |recovery: &Recovery| recovery.recovered_after_s.map_or(f64::INFINITY, |s| s * 1_000.0);
    recoveries.iter().filter(|recovery| !recovery.never_happened()).map(of).reduce(f64::max)
}

pub(crate) fn generator(valid: bool, lag_p99_ms: Option<f64>, rows: &[Row]) -> Generator {
    let own = |row: &Row| row.generator.map(|sample| sample.cpu_us);
    let host = |row: &Row| row.host;
    Generator {
        valid,
        lag_p99_ms,
        cpu_us: rows.iter().find_map(own).zip(rows.iter().rev().find_map(own)).map(|(from, to)| to - from),
        steal_ratio: rows
            .iter()
            .find_map(host)
            .zip(rows.iter().rev().find_map(host))
            .map(|(from, to)| to.steal_share_since(&from)),
        dropped: rows.iter().map(|row| row.dropped).sum(),
    }
}

/// What the server took: of the rows that saw it.
pub(crate) fn server(operations: &BTreeMap<String, OperationSummary>, rows: &[Row]) -> Server {
    let samples = || rows.iter().filter_map(|row| row.server);
    let observed = || rows.iter().filter_map(|row| row.observed);
    // Added up over its rises: a server that was started again begins at 0.
    let mut cpu_us = None;
    for pair in samples().collect::<Vec<_>>().windows(2) {
        let [from, to] = pair else { continue };
        *cpu_us.get_or_insert(0) += to.cpu_us.saturating_sub(from.cpu_us);
    }
    // The steps of a sign-up are its operations; the sign-up as a whole would count them twice, and the wait for a
    // code and the arrival of a message are not asked of the server.
    let whole = [SIGN_UP, FINISH_SIGN_UP, PUMP, RECEIVE_CODE, DELIVER, BACK, BACKLOG];
    // Nor is what the rude do beside writing: a stream that was reset is no work that was wanted.
    let rude = Cohort::ALL.into_iter().filter(|cohort| !cohort.writes()).map(Cohort::operation);
    let whole: Vec<_> = whole.into_iter().chain(rude).collect();
    let ok: u64 = operations
        .iter()
        .filter(|(name, _)| whole.iter().all(|operation| operation.0 != name.as_str()))
        .map(|(_, operation)| operation.ok)
        .sum();
    Server {
        cpu_us_per_op: cpu_us.filter(|_| ok > 0).map(|cpu_us: u64| cpu_us as f64 / ok as f64),
        rss_peak_bytes: samples().map(|sample| sample.rss_peak_bytes).max(),
        pss_peak_bytes: observed().filter_map(|seen| seen.pss_bytes).max(),
        descriptors_peak: samples().map(|sample| sample.descriptors).max().filter(|count| *count > 0),
        tcp_peak_bytes: observed().filter_map(|seen| seen.tcp_bytes).max(),
        bytes_per_session: None,
        sessions_peak: observed().filter_map(|seen| seen.sessions).max(),
    }
}
