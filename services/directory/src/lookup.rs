use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_types::{AccountId, NumberMac};

use crate::Directory;
use crate::metrics::Tally;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("numbers: at most {most} are allowed, not {asked}")]
    TooMany { asked: usize, most: usize },
    #[error("the directory could not be read")]
    Store(#[from] StoreError),
}

/// The answer to a look-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// In the order of the numbers.
    pub(crate) matches: Vec<(String, AccountId)>,
    /// The places of numbers that were left open to spare the store.
    pub(crate) open: Vec<usize>,
}

impl Directory {
    /// The accounts behind `numbers`, in their order. Numbers without one are left out; with `spare_store`, those as well
    /// about which only the store knows.
    ///
    /// Entries that are not E.164 are left out too. They are normal in an address book, and refusing the call because of
    /// one would hide a thousand friends behind a typing error. Nor is each checked against its numbering plan, which
    /// would keep a thread busy for 10 ms a call: no account was created for a number outside it, so such a number
    /// matches nothing by itself.
    pub(crate) async fn lookup(
        &self,
        mut numbers: Vec<String>,
        spare_store: bool,
    ) -> Result<Found, LookupError> {
        let most = self.config.numbers_max;
        if numbers.len() > most {
            return Err(LookupError::TooMany { asked: numbers.len(), most });
        }
        let (candidates, mut tally) = self.candidates(&numbers);
        if spare_store {
            tally.open = candidates.len();
            self.metrics.count(tally);
            let open = candidates.into_iter().map(|(place, _)| place).collect();
            return Ok(Found { matches: Vec::new(), open });
        }
        let macs: Vec<_> = candidates.iter().map(|(_, mac)| *mac).collect();
        let accounts = self.reads.read(&macs).await?;
        let matches: Vec<_> = candidates
            .into_iter()
            .zip(accounts)
            .filter_map(|((place, _), account)| Some((std::mem::take(&mut numbers[place]), account?)))
            .collect();
        (tally.asked, tally.matched) = (macs.len(), matches.len());
        self.metrics.count(tally);
        Ok(Found { matches, open: Vec::new() })
    }

    /// The places and hashes of those numbers that somebody may have.
    fn candidates(&self, numbers: &[String]) -> (Vec<(usize, NumberMac)>, Tally) {
        let view = self.filter.view();
        let mut tally = Tally { filtered: view.is_some(), ..Tally::default() };
        let mut candidates = Vec::new();
        for (place, number) in numbers.iter().enumerate() {
            match self.pepper.mac_of_text(number) {
                Err(_) => tally.malformed += 1,
                Ok(mac) if view.as_ref().is_some_and(|view| !view.may_have(&mac)) => tally.absent += 1,
                Ok(mac) => candidates.push((place, mac)),
            }
        }
        (candidates, tally)
    }
}

impl ServiceError for LookupError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::TooMany { .. } => Refusal::new(Reason::InvalidArgument, self.to_string()),
            Self::Store(StoreError::Corrupt { .. }) => {
                Refusal::new(Reason::Internal, "a stored record cannot be read")
            }
            Self::Store(StoreError::Unavailable(_) | StoreError::Stopped(_) | StoreError::DiskFull) => {
                Refusal::new(Reason::Unavailable, "the directory did not answer; repeating is safe")
            }
        }
    }
}

#[cfg(test)]
mod tests;
