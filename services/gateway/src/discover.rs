//! `Contacts.Discover`: each number that an account has not asked about lately costs a permit, whether it has an account or
//! not.
//!
//! Under overload it gets cheaper and then it stops, because it can wait for hours and messages cannot. From
//! [`FROM_FILTER_ONLY`] on only those numbers are answered that certainly nobody has; the others are named in the answer,
//! to be asked about later. From [`PAUSED`] on it is refused. Both say when to come back.

use std::time::Duration;

use spillway_admission::{Key, Limit};
use spillway_api::internal::v1::LookupRequest;
use spillway_api::{FieldError, v1};
use spillway_types::AccountId;

use crate::Parts;
use crate::auth::Caller;
use crate::forward::ForwardError;
use crate::inner::InnerError;
use crate::metrics::DiscoverNumber;
use crate::wire::wire_duration;

/// An address book comes in a few calls, and one call is one bounded piece of work for the directory.
const NUMBERS_MAX: usize = 1_000;

/// From this rung of the brownout ladder on, discovery does not read the store.
const FROM_FILTER_ONLY: u8 = 2;
/// From this one on, there is none.
const PAUSED: u8 = 3;
/// When to come back: some times what the ladder waits before it goes down a rung, and up to twice that by account, so that
/// those who were sent away do not come back together. Within what overload control tells look-ups, 5 to 300 s.
const POSTPONED_FOR: Duration = Duration::from_secs(60);
const PAUSED_FOR: Duration = Duration::from_secs(120);

impl Parts {
    pub(crate) async fn discover(
        &self,
        caller: &Caller,
        request: v1::DiscoverRequest,
    ) -> Result<v1::DiscoverResponse, ForwardError> {
        let mut numbers = request.numbers;
        if numbers.len() > NUMBERS_MAX {
            let problem = format!("must have at most {NUMBERS_MAX} entries, got {}", numbers.len());
            return Err(ForwardError::Field(FieldError::new("numbers", problem)));
        }
        let account = caller.address.account;
        let rung = self.hop.admission().rung();
        if rung >= PAUSED {
            self.metrics.discover_pauses.inc();
            return Err(ForwardError::Paused(spread(PAUSED_FOR, account)));
        }
        let spare_store = rung >= FROM_FILTER_ONLY;
        let key = Key::User(account);
        let (question, new) = self.asked.question(account, &numbers);
        self.draw(Limit::Discover, &key, u32::try_from(new).expect("at most 1,000"))?;
        // Before the answer: whoever gets none has paid, and asks again for nothing. Those that are left open are paid for as
        // well, because "perhaps" about a number is nearly as good as "yes" to a scraper.
        self.asked.remember(&question);
        self.metrics.discovered.add(DiscoverNumber::New, new);
        self.metrics.discovered.add(DiscoverNumber::AskedBefore, numbers.len() - new);

        // They go to the directory and are needed again for those that are left open, of which there are few or none.
        let kept = if spare_store { numbers.clone() } else { Vec::new() };
        let lookup = LookupRequest { numbers: std::mem::take(&mut numbers), spare_store };
        let answer = self.directory.clone().lookup(lookup).await;
        let answer =
            answer.map_err(|status| ForwardError::Inner(InnerError::directory(status)))?.into_inner();
        let postponed = named(kept, &answer.open);
        self.metrics.discovered.add(DiscoverNumber::Postponed, postponed.len());
        let retry_after = (!postponed.is_empty()).then(|| wire_duration(spread(POSTPONED_FOR, account)));
        Ok(v1::DiscoverResponse {
            matches: answer.matches,
            quota_left: self.quotas.left(Limit::Discover, &key),
            postponed,
            retry_after,
        })
    }
}

/// The numbers at these places.
fn named(mut numbers: Vec<String>, places: &[u32]) -> Vec<String> {
    places.iter().filter_map(|place| numbers.get_mut(*place as usize).map(std::mem::take)).collect()
}

/// From `pause` to twice that, always the same for an account. Ids are random.
fn spread(pause: Duration, account: AccountId) -> Duration {
    let [share, ..] = *account.as_bytes();
    pause + pause.mul_f64(f64::from(share) / 256.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_come_back_at_different_times() {
        let pause = |first| spread(PAUSED_FOR, AccountId::from_bytes([first; 16]));
        assert_eq!(pause(0), PAUSED_FOR);
        assert_eq!(pause(128), PAUSED_FOR * 3 / 2);
        assert!((5..300).contains(&pause(255).as_secs()));
    }
}
