//! `Contacts.Discover`: every number asked about costs a permit, whether it has an account or not.

use spillway_admission::{Key, Limit};
use spillway_api::internal::v1::LookupRequest;
use spillway_api::{FieldError, v1};

use crate::Parts;
use crate::auth::Caller;
use crate::forward::ForwardError;
use crate::inner::InnerError;

/// An address book comes in a few calls, and one call is one bounded piece of work for the directory.
const NUMBERS_MAX: usize = 1_000;

impl Parts {
    pub(crate) async fn discover(
        &self,
        caller: &Caller,
        request: v1::DiscoverRequest,
    ) -> Result<v1::DiscoverResponse, ForwardError> {
        let count = request.numbers.len();
        let permits = u32::try_from(count).ok().filter(|_| count <= NUMBERS_MAX).ok_or_else(|| {
            let problem = format!("must have at most {NUMBERS_MAX} entries, got {count}");
            ForwardError::Field(FieldError::new("numbers", problem))
        })?;
        let key = Key::User(caller.address.account);
        self.draw(Limit::Discover, &key, permits)?;
        let lookup = LookupRequest { numbers: request.numbers };
        let answer = self.directory.clone().lookup(lookup).await;
        let answer = answer.map_err(|status| ForwardError::Inner(InnerError::directory(status)))?;
        Ok(v1::DiscoverResponse {
            matches: answer.into_inner().matches,
            quota_left: self.quotas.left(Limit::Discover, &key),
        })
    }
}
