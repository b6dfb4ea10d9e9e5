//! What a phone shows to somebody who waits.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use spillway_api::v1;
use spillway_client::Wait;
use tokio::time::sleep;

/// A shorter wait is not worth a word.
pub(super) const NOTICED: Duration = Duration::from_secs(1);

pub(crate) fn say(line: &str) {
    println!("{line}");
}

pub(super) fn sentence(wait: &Wait) -> String {
    let reason = match wait.reason {
        v1::WaitReason::Unspecified => "",
        v1::WaitReason::Frozen => " Nobody is let in at the moment, so that those who are in are served.",
        v1::WaitReason::NotOpen => " It has not opened yet; places are drawn when it does.",
        v1::WaitReason::Codes => " Codes cannot be sent faster at the moment.",
        v1::WaitReason::Budget => " No more codes can be paid for at the moment.",
        v1::WaitReason::Slower => " It is slower than it was.",
        v1::WaitReason::ControlGone => " This may be a little out of date.",
    };
    match wait.range {
        Some((least, most)) => {
            format!("{} ahead of you. It takes {} to {}.{reason}", wait.ahead, rough(least), rough(most))
        }
        None => "You have a place. How long it takes is not known yet.".to_owned(),
    }
}

pub(super) fn rough(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3_600)),
    }
}

/// A line that changes in a terminal, and nothing elsewhere.
pub(super) async fn count_down(until: Duration) {
    let mut left = until;
    while !left.is_zero() {
        if io::stdout().is_terminal() {
            print!("\r  asking again in {} s ", left.as_secs() + 1);
            // A terminal that is gone is noticed by the next line.
            io::stdout().flush().ok();
        }
        let step = left.min(Duration::from_secs(1));
        sleep(step).await;
        left -= step;
    }
    if io::stdout().is_terminal() {
        print!("\r{:40}\r", "");
    }
}
