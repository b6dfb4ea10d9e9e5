//! What of a run a peer can play. The rest is refused before it, and never left out in silence.

use super::Address;
use crate::cli::RunOptions;
use crate::gates::GateFile;
use crate::load::{Load, Op};
use crate::offer::{Offer, OfferError, SignUps};

/// Why a run cannot be played against a peer.
#[derive(Debug, thiserror::Error)]
pub enum NotPlayable {
    #[error(
        "{target} has no equal of {operations}: {why}. Play the rest of the load with --only {rest}, which also makes the run of a \
         Spillway that it is compared with"
    )]
    Operations { target: String, operations: String, why: String, rest: String },
    #[error("{target} knows nothing of {what}, which is Spillway's: leave it out")]
    Option { target: String, what: &'static str },
    #[error("in this load {what}, which is played with Spillway's client: {target} needs another load")]
    Behaviour { target: String, what: &'static str },
    #[error(transparent)]
    Offer(#[from] OfferError),
}

/// Operations that all peers have, because all of them have sessions and messages.
const PLAYABLE: [Op; 5] = [Op::Send, Op::FanOut, Op::Reconnect, Op::Flap, Op::Wake];

/// Whether a peer has an equal of an operation.
pub fn playable(op: Op) -> bool {
    PLAYABLE.contains(&op)
}

/// Refuses what cannot be played.
///
/// # Errors
///
/// With what it is, and how to play the rest.
pub fn check(options: &RunOptions, asked: &GateFile, peer: &Address) -> Result<(), NotPlayable> {
    let target = peer.to_string();
    let foreign = [
        (options.cohorts.is_some() || asked.cohorts.is_some(), "--cohorts"),
        (options.harm, "--harm"),
        (options.admit.is_some(), "--admit"),
        (!options.admin.is_empty() && !peer.reads_admin(), "--admin"),
        (options.server_binary.is_some(), "--server-binary"),
        (!options.server_arg.is_empty(), "--server-arg"),
    ];
    if let Some((_, what)) = foreign.into_iter().find(|(is_used, _)| *is_used) {
        return Err(NotPlayable::Option { target, what });
    }
    // Refused without knowing how many come: the rate does not matter.
    let load = Offer::of(options, SignUps::without_probe(options))?.load;
    of_load(&load, &target)
}

fn of_load(load: &Load, target: &str) -> Result<(), NotPlayable> {
    let target = target.to_owned();
    let offered = |(op, curve): (Op, &crate::curve::Curve)| (curve.total() > 0.0).then_some(op);
    let (can, cannot): (Vec<_>, Vec<_>) = load.curves().filter_map(offered).partition(|op| playable(*op));
    if !cannot.is_empty() {
        let names = |ops: &[Op], between| ops.iter().map(|op| op.name()).collect::<Vec<_>>().join(between);
        let why = cannot.iter().map(|op| why(*op)).collect::<Vec<_>>().join("; ");
        let rest = if can.is_empty() { "send".to_owned() } else { names(&can, ",") };
        return Err(NotPlayable::Operations { target, operations: names(&cannot, " and "), why, rest });
    }
    let what = if !load.behaviour.slow.is_empty() {
        "answers are late on purpose"
    } else if load.behaviour.send_patience.is_some() {
        "people send again when no answer comes"
    } else {
        return Ok(());
    };
    Err(NotPlayable::Behaviour { target, what })
}

const fn why(op: Op) -> &'static str {
    match op {
        Op::SignUp => {
            "a sign-up is a waiting room, a code by text message, an account, an address book and a first message"
        }
        Op::Discover => "it does not look up who of an address book is there",
        Op::Send | Op::FanOut | Op::Reconnect | Op::Flap | Op::Wake => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(line: &str) -> Result<(), String> {
        let options = RunOptions::typed(line.split('|').filter(|word| !word.is_empty()));
        let peer = Address::parse("pg://h/d").unwrap().unwrap();
        check(&options, &GateFile::default(), &peer).map_err(|error| error.to_string())
    }

    #[test]
    fn a_load_of_messages_and_sessions_is_played() {
        checked("--profile|send(10s@5)").unwrap();
        checked("--profile|reconnect-storm").unwrap();
        checked("--profile|steady|--only|send").unwrap();
        checked("--only|send,reconnect").unwrap();
        checked("--profile|midnight|--only|send,fan-out").unwrap();
    }

    #[test]
    fn the_rest_is_refused_by_name() {
        let error = checked("--profile|steady").unwrap_err();
        assert!(error.contains("has no equal of signup") && error.contains("--only send"), "{error}");
        let error = checked("--profile|send(5s@1) + discover(5s@1) + 5s@2").unwrap_err();
        assert!(error.contains("signup and discover") && error.contains("address book"), "{error}");
        assert!(checked("--profile|retry-amplify").unwrap_err().contains("on purpose"));
        for (line, option) in [
            ("--profile|send(5s@1)|--cohorts|hot-loop=50%", "--cohorts"),
            ("--profile|send(5s@1)|--admin|127.0.0.1:1", "--admin"),
            ("--profile|send(5s@1)|--server-arg|x", "--server-arg"),
        ] {
            assert!(checked(line).unwrap_err().contains(option), "{line}");
        }
    }
}
