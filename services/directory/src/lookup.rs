use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_types::AccountId;

use crate::Directory;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("numbers: at most {most} are allowed, not {asked}")]
    TooMany { asked: usize, most: usize },
    #[error("the directory could not be read")]
    Store(#[from] StoreError),
}

impl Directory {
    /// The accounts behind `numbers`, in their order. Numbers without one are left out.
    ///
    /// Entries that are not E.164 are left out too. They are normal in an address book, and refusing the call because of
    /// one would hide a thousand friends behind a typing error. Nor is each checked against its numbering plan, which
    /// would keep a thread busy for 10 ms a call: no account was created for a number outside it, so such a number
    /// matches nothing by itself.
    pub(crate) async fn lookup(&self, numbers: Vec<String>) -> Result<Vec<(String, AccountId)>, LookupError> {
        let most = self.config.numbers_max;
        if numbers.len() > most {
            return Err(LookupError::TooMany { asked: numbers.len(), most });
        }
        let asked = numbers.len();
        let (numbers, macs): (Vec<_>, Vec<_>) = numbers
            .into_iter()
            .filter_map(|number| self.pepper.mac_of_text(&number).ok().map(|mac| (number, mac)))
            .unzip();
        let accounts = self.directory.lookup(&macs).await?;
        let well_formed = numbers.len();
        let found: Vec<_> = numbers
            .into_iter()
            .zip(accounts)
            .filter_map(|(number, account)| Some((number, account?)))
            .collect();
        self.metrics.count(asked - well_formed, well_formed - found.len(), found.len());
        Ok(found)
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
mod tests {
    use std::sync::Arc;

    use prometheus::Registry;
    use spillway_api::internal::v1::LookupRequest;
    use spillway_store::embedded::{self, EmbeddedHandle};
    use spillway_types::{Pepper, PhoneNumber, Secret, SystemClock};
    use tempfile::TempDir;
    use tonic::{Code, Request};

    use super::*;
    use crate::{Config, Deps};

    const ALICE: &str = "+4930123456";
    const BOB: &str = "+14155550123";

    struct Fixture {
        directory: Directory,
        pepper: Pepper,
        _store: EmbeddedHandle,
        _folder: TempDir,
    }

    fn fixture() -> Fixture {
        let folder = TempDir::new().unwrap();
        let config = embedded::Config { path: folder.path().to_owned(), ..embedded::Config::default() };
        let registry = Registry::new();
        let (store, handle) = embedded::open(&config, &registry, Arc::new(SystemClock)).unwrap();
        let pepper = Pepper::new(1, Secret::from_bytes([7; 32]));
        let deps = Deps { directory: store.directory, pepper: pepper.clone(), registry };
        let directory = Directory::new(Config::default(), deps).unwrap();
        Fixture { directory, pepper, _store: handle, _folder: folder }
    }

    impl Fixture {
        async fn register(&self, number: &str) -> AccountId {
            let account = AccountId::random();
            let mac = self.pepper.mac(&PhoneNumber::parse(number).unwrap());
            self.directory.directory.put(mac, account).await.unwrap();
            account
        }
    }

    fn text(numbers: &[&str]) -> Vec<String> {
        numbers.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn finds_who_is_there_in_the_order_of_the_question() {
        let fixture = fixture();
        let alice = fixture.register(ALICE).await;
        let bob = fixture.register(BOB).await;
        let found = fixture.directory.lookup(text(&[BOB, "+4930999999", ALICE])).await.unwrap();
        assert_eq!(found, [(BOB.to_owned(), bob), (ALICE.to_owned(), alice)]);
    }

    #[tokio::test]
    async fn malformed_and_impossible_numbers_do_not_sink_the_rest() {
        let fixture = fixture();
        let alice = fixture.register(ALICE).await;
        let book = ["", "112", "+49 30 123456", "+19995550123", "mum", ALICE, "+"];
        let found = fixture.directory.lookup(text(&book)).await.unwrap();
        assert_eq!(found, [(ALICE.to_owned(), alice)]);
        assert_eq!(fixture.directory.metrics.counts(), (5, 1, 1));
    }

    #[tokio::test]
    async fn an_empty_book_is_answered() {
        assert_eq!(fixture().directory.lookup(Vec::new()).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_thousand_numbers_are_the_limit() {
        let fixture = fixture();
        let book = |count: u32| (0..count).map(|i| format!("+4930{i:07}")).collect::<Vec<_>>();
        assert_eq!(fixture.directory.lookup(book(1_000)).await.unwrap(), []);
        let request = Request::new(LookupRequest { numbers: book(1_001) });
        // Through the service, for the code.
        let status =
            spillway_api::internal::v1::directory_server::Directory::lookup(&fixture.directory, request);
        assert_eq!(status.await.unwrap_err().code(), Code::InvalidArgument);
    }
}
