//! The provider's bad quarter of an hour, and what was let in meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Run, RunError};
use crate::carrier::Carrier;
use crate::profile::Brownout;
use crate::room::SecondInRoom;

/// How long the service may take to find out, at most; less in a short run.
const FOUND_OUT_WITHIN: Duration = Duration::from_secs(5);

/// Has the provider fail and come back, at their times from `started`.
pub(super) fn begin(run: &mut Run, brownout: Brownout, started: Instant) -> Result<(), RunError> {
    let carrier = run.carrier.clone().ok_or(RunError::OwnServerNeeded)?;
    carrier.takes(brownout.full_per_s);
    run.tasks.spawn(fail_and_come_back(carrier, brownout, started));
    Ok(())
}

async fn fail_and_come_back(carrier: Carrier, brownout: Brownout, started: Instant) {
    sleep_until(started + brownout.fails_at()).await;
    carrier.takes(brownout.low_per_s);
    sleep_until(started + brownout.is_back_at()).await;
    carrier.takes(brownout.full_per_s);
}

/// Turns a second while the provider took little, over what it took; `seconds` are those of the whole run, of which the
/// first are calm.
pub(super) fn admitted_over_capacity(
    brownout: Brownout,
    calm: Duration,
    seconds: &[SecondInRoom],
) -> Option<f64> {
    let found_out = FOUND_OUT_WITHIN.min(brownout.length / 12);
    let from = (calm + brownout.fails_at() + found_out).as_secs() as usize;
    let to = (calm + brownout.is_back_at()).as_secs() as usize;
    let low = seconds.get(from..to).filter(|low| !low.is_empty())?;
    let turns: u64 = low.iter().map(|second| second.turns).sum();
    Some(turns as f64 / low.len() as f64 / brownout.low_per_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_in_is_compared_with_what_the_provider_took_at_its_worst() {
        let brownout = Brownout::new(100.0, Duration::from_secs(60));
        let mut seconds = vec![SecondInRoom { turns: 50, ..SecondInRoom::default() }; 80];
        let calm = Duration::from_secs(10);
        assert_eq!(admitted_over_capacity(brownout, calm, &seconds), Some(5.0));
        // From 35 s on it is known.
        seconds[35..50].iter_mut().for_each(|second| second.turns = 10);
        assert_eq!(admitted_over_capacity(brownout, calm, &seconds), Some(1.0));
        assert_eq!(admitted_over_capacity(brownout, calm, &seconds[..20]), None);
    }
}
