//! What is looked at before anything runs.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::RunError;
use crate::cli::{Continued, RunOptions};
use crate::codes::{CodeStream, Phones};
use crate::cohorts::Shares;
use crate::faults::Fault;
use crate::gates::GateFile;
use crate::offer::{Offer, SignUps};
use crate::peer::Address;
use crate::target::check_loopback;
use crate::workers::WorkersError;
use crate::workload::is_reachable;

/// For a connection to an admin port.
const ADMIN_WITHIN: Duration = Duration::from_secs(2);

/// Whether it may be a target, and is there. Whether a peer, whose address this returns, is there is found out when it is connected to.
pub(super) async fn check_target(options: &RunOptions) -> Result<Option<Address>, RunError> {
    for address in options.target.iter().chain(&options.admin) {
        let address = if address.contains("://") { address.clone() } else { format!("http://{address}") };
        check_loopback(&address, options.i_own_this_target)?;
    }
    if let Some(peer) = Address::of(&options.target)? {
        return Ok(Some(peer));
    }
    for address in &options.target {
        if !is_reachable(address).await {
            return Err(RunError::Unreachable(address.clone()));
        }
    }
    if options.target.is_empty() {
        return Ok(None);
    }
    for address in &options.codes {
        check_loopback(address, options.i_own_this_target)?;
        // Before there is a folder: nothing has run.
        CodeStream::open(address, Phones::default()).await?;
    }
    for address in &options.admin {
        let plain = address.strip_prefix("http://").unwrap_or(address);
        if !matches!(timeout(ADMIN_WITHIN, TcpStream::connect(plain)).await, Ok(Ok(_))) {
            return Err(RunError::NoAdmin(address.clone()));
        }
    }
    Ok(None)
}

/// The same where several workers play: they are introduced to each other by accounts of Spillway.
pub(super) async fn check_shared_target(options: &RunOptions) -> Result<(), RunError> {
    match check_target(options).await? {
        Some(_) => Err(WorkersError::NotShared("a load against a system to compare with").into()),
        None => Ok(()),
    }
}

/// Who does not behave: the command line comes before the file.
pub(crate) fn shares(options: &RunOptions, asked: &GateFile) -> Shares {
    options.cohorts.clone().or_else(|| asked.cohorts.clone()).unwrap_or_default()
}

/// A run goes on with the people that it began with.
pub(super) fn same_as_before(continued: &Continued, now: &Shares) -> Result<(), RunError> {
    let before = continued.cohorts.as_ref().map(|cohorts| cohorts.shares.clone());
    let same = match &before {
        Some(text) => text.parse::<Shares>().is_ok_and(|before| before.are_those_of(now)),
        None => !now.has_rude(),
    };
    let before = before.unwrap_or_else(|| Shares::default().text().to_owned());
    if same { Ok(()) } else { Err(RunError::OtherCohorts { before, now: now.text().to_owned() }) }
}

/// A fault that is to hit a process must know which.
pub(super) fn check_faults(options: &RunOptions, faults: &[Fault]) -> Result<(), RunError> {
    let is_known = options.target.is_empty() || !options.server_pid.is_empty();
    match faults.iter().find(|fault| !is_known && fault.needs_pids()) {
        Some(fault) => Err(RunError::FaultWithoutPid(fault.label.clone())),
        None => Ok(()),
    }
}

/// Says what is probably a mistake, and none that a run could not go on with.
pub(super) fn warn_of(options: &RunOptions, asked: &GateFile) {
    for warning in faults_too_late(options, &asked.faults).iter().filter(|_| !options.quiet) {
        eprintln!("warning: {warning}");
    }
}

/// What there is to say of faults that come when there is no load that could feel them.
fn faults_too_late(options: &RunOptions, faults: &[Fault]) -> Vec<String> {
    // What is wrong with the load is said elsewhere.
    let Ok(offer) = Offer::of(options, SignUps::without_probe(options)) else { return Vec::new() };
    let ends = Duration::from_secs(options.calm) + offer.load.duration();
    let late = faults.iter().filter(|fault| fault.at >= ends);
    late.map(|fault| {
        format!(
            "the fault `{}` is for {} s after the start, and the load is over after {} s: nothing will come of it",
            fault.label,
            fault.at.as_secs_f64(),
            ends.as_secs_f64()
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use spillway_types::Timestamp;

    use super::*;
    use crate::manifest::CohortsAsked;
    use crate::recording::Recording;

    #[test]
    fn a_run_goes_on_with_the_cohorts_that_it_began_with() {
        let continued = |shares: Option<&str>| Continued {
            folder: "f".into(),
            started: Timestamp::from_millis(0),
            from: Duration::from_secs(3),
            earlier: Arc::new(Recording::default()),
            cohorts: shares.map(|text| CohortsAsked {
                shares: text.to_owned(),
                existing: 40,
                people: BTreeMap::new(),
            }),
        };
        let same = |before, now: &str| same_as_before(&continued(before), &now.parse().unwrap());
        assert!(same(Some("hot-loop=5%"), "hot_loop=0.05").is_ok());
        assert!(same(None, "polite=100%").is_ok());
        let error = same(Some("hot-loop=5%"), "hot-loop=6%").unwrap_err().to_string();
        assert!(error.contains("hot-loop=5%") && error.contains("hot-loop=6%"), "{error}");
        assert!(same(Some("hot-loop=5%"), "polite=100%").is_err());
        // Begun by a version that kept nothing of them.
        assert!(same(None, "hot-loop=5%").is_err());
    }

    #[test]
    fn a_fault_that_is_to_hit_a_process_must_know_which() {
        let with = |more: &[&str]| {
            let options = RunOptions::typed(more.iter().copied());
            let kill = |command: &str| [Fault::new("3s", command, None).unwrap()];
            (
                check_faults(&options, &kill("kill -9 $SURGE_SERVER_PID")),
                check_faults(&options, &kill("true")),
            )
        };
        let (kills, does_nothing) = with(&["--target", "http://127.0.0.1:1"]);
        assert!(kills.unwrap_err().to_string().contains("--server-pid") && does_nothing.is_ok());
        assert!(
            with(&[]).0.is_ok() && with(&["--target", "http://127.0.0.1:1", "--server-pid", "1"]).0.is_ok()
        );
    }

    #[test]
    fn a_fault_that_nobody_will_feel_is_told_of() {
        let options = RunOptions::typed(["--profile", "send(20s@5)", "--calm", "5"]);
        let at = |at: &str| faults_too_late(&options, &[Fault::new(at, "true", None).unwrap()]);
        assert_eq!(at("24s"), Vec::<String>::new());
        let said = at("25s").concat();
        assert!(said.contains("`true` is for 25 s") && said.contains("over after 25 s"), "{said}");
    }
}
