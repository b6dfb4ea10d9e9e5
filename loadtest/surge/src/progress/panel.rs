//! A snapshot as one line of text.

use super::{InRoom, Snapshot};

/// One plain line.
pub fn line(now: &Snapshot) -> String {
    let date = now.replayed.as_deref().map_or_else(String::new, |utc| format!(" {utc}"));
    let room = now.room.map_or_else(String::new, |room| format!(" | room: {}", in_room(&room)));
    let codes = match now.codes {
        0 => String::new(),
        sent => format!(" | codes {sent}, {:.2} spent", sent as f64 * now.code_cost),
    };
    let missed = now.gates.iter().filter(|gate| gate.holds == Some(false));
    let missed: String = missed.map(|gate| format!(" | MISSED {}", gate.text)).collect();
    format!(
        "{:>4}s/{}s {}{date} | sign-ups {:.0}/s of {:.0}/s | sends {:.0}/s of {:.0}/s{room}{codes} | existing p99 {} | acked {} delivered {} | refused {} failed {} duplicated {}{missed}",
        now.elapsed.as_secs(),
        now.planned.as_secs(),
        now.phase,
        now.completed_per_s,
        now.offered_per_s,
        now.sends_per_s,
        now.sends_offered_per_s,
        millis(now.existing_p99_ms),
        now.acked,
        now.delivered,
        now.refused,
        now.failed,
        now.duplicated,
    )
}

pub(super) fn in_room(room: &InRoom) -> String {
    let of = match (room.frozen, room.rate_per_s) {
        (true, _) => ", nobody is called".to_owned(),
        (false, Some(rate)) => format!(", room for {rate:.0}/s"),
        (false, None) => String::new(),
    };
    let told = room
        .told_and_waited_s
        .map_or_else(String::new, |(told, waited)| format!("   told {told:.0} s, waited {waited:.0} s"));
    format!("{} wait   {:.0}/s come in{of}{told}", room.waiting, room.come_in_per_s)
}

pub(super) fn minutes(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

pub(super) fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

/// A run that never happened, for tests.
#[cfg(test)]
pub(super) fn example() -> Snapshot {
    use std::time::Duration;

    Snapshot {
        profile: "signal-2021".to_owned(),
        phase: "surge".to_owned(),
        elapsed: Duration::from_secs(42),
        planned: Duration::from_secs(84),
        replayed: Some("2021-01-15T15:00Z".to_owned()),
        curve: (0..40).map(f64::from).collect(),
        offered_per_s: 812.0,
        completed_per_s: 806.4,
        sends_offered_per_s: 400.0,
        sends_per_s: 398.0,
        sign_ups_in_flight: 41,
        sends_in_flight: 3,
        refused: 12,
        existing_p50_ms: Some(2.1),
        existing_p99_ms: Some(12.3),
        existing_p999_ms: Some(31.0),
        existing_p99_before_ms: Some(7.04),
        existing_success_ratio: Some(0.999_99),
        acked: 182_004,
        delivered: 181_998,
        on_their_way: 6,
        lag_p99_ms: Some(0.4),
        ..Snapshot::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::GateNow;
    use super::*;

    #[test]
    fn a_plain_line_says_the_same() {
        assert_eq!(
            line(&example()),
            "  42s/84s surge 2021-01-15T15:00Z | sign-ups 806/s of 812/s | sends 398/s of 400/s | existing p99 12 ms | acked 182004 delivered \
             181998 | refused 12 failed 0 duplicated 0"
        );
        let room = InRoom {
            waiting: 1_204,
            come_in_per_s: 119.6,
            rate_per_s: Some(120.0),
            frozen: false,
            told_and_waited_s: Some((15.2, 13.4)),
        };
        let gate = GateNow { text: "send.error_rate < 1%".to_owned(), value: None, holds: Some(false) };
        let now = Snapshot { room: Some(room), gates: vec![gate], ..example() };
        assert!(
            line(&now).contains(" of 400/s | room: 1204 wait   120/s come in, room for 120/s   told 15 s")
        );
        assert!(line(&now).ends_with(" | MISSED send.error_rate < 1%"));
    }
}
