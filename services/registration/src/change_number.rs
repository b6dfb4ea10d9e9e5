use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_store::accounts::{Account, NumberClaim};
use spillway_types::{DeviceAddress, NumberMac, Secret};

use crate::Role;
use crate::accounts::has_device;
use crate::error;
use crate::metrics::AccountEvent;
use crate::sessions::Step;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeNumberError {
    #[error("not the primary device")]
    NotPrimary,
    #[error("the calling device has been removed")]
    CallerGone,
    #[error("no such verification session")]
    NotFound,
    #[error("the number has not been proved")]
    NotVerified,
    #[error("another account has the number")]
    Taken,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for ChangeNumberError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotPrimary => error::not_primary(),
            Self::CallerGone => error::gone(),
            Self::NotFound => error::no_session(),
            Self::NotVerified => error::not_verified(),
            Self::Taken => Refusal::new(Reason::NumberTaken, "another account has this number"),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    /// Moves the caller's account to a proved number. Repeating it is harmless.
    ///
    /// Order: claim the new number, write it into the account, give up the old one. A stop before the end leaves the
    /// account with two claims, of which the one that is not its number gives way to whoever proves that number.
    pub(crate) async fn change_number(
        &self,
        caller: DeviceAddress,
        session: &Secret,
    ) -> Result<(), ChangeNumberError> {
        if !caller.device.is_primary() {
            return Err(ChangeNumberError::NotPrimary);
        }
        let id = self.secrets.verification_id(session);
        let session = self.sessions.get(id).await?.ok_or(ChangeNumberError::NotFound)?;
        if !session.verified {
            return Err(ChangeNumberError::NotVerified);
        }
        if session.account.is_some_and(|account| account != caller.account) {
            return Err(ChangeNumberError::NotFound);
        }
        self.callers_account(caller).await?.ok_or(ChangeNumberError::CallerGone)?;
        let _turn = self.turns.take(session.number).await;
        let claim = NumberClaim { number: session.number, account: caller.account };
        if !self.claim_or_take_over(claim).await? {
            return Err(ChangeNumberError::Taken);
        }
        let (account, old) = self.write_number(caller, session.number).await?;
        if self.accounts.claim(claim).await? != claim {
            // Somebody else proved the number, and took the claim while the account did not have the number yet.
            self.write_number(caller, old.unwrap_or(account.number)).await?;
            return Err(ChangeNumberError::Taken);
        }
        // From here on the session cannot be used to register the number over again.
        self.sessions
            .change_from(session, |session, _| {
                session.account = Some(caller.account);
                Ok::<_, StoreError>(Step::Write(()))
            })
            .await?;
        if let Some(old) = old {
            self.directory.remove(old, account.id).await?;
            self.accounts.release(NumberClaim { number: old, account: account.id }).await?;
            self.metrics.account(AccountEvent::NumberChanged);
        }
        self.index(&account).await?;
        Ok(())
    }

    /// Whether the claim stands. A claim of an account that has another number by now does not count.
    async fn claim_or_take_over(&self, claim: NumberClaim) -> Result<bool, StoreError> {
        let standing = self.accounts.claim(claim).await?;
        if standing == claim {
            return Ok(true);
        }
        let holder = self.accounts.get(standing.account).await?;
        if holder.is_none_or(|holder| holder.number == claim.number) {
            return Ok(false);
        }
        self.accounts.release(standing).await?;
        Ok(self.accounts.claim(claim).await? == claim)
    }

    /// Answers with the number that the account had, if it was another.
    async fn write_number(
        &self,
        caller: DeviceAddress,
        number: NumberMac,
    ) -> Result<(Account, Option<NumberMac>), ChangeNumberError> {
        let changed = self
            .change_account(caller.account, |account| {
                if !has_device(account, caller) {
                    return Err(ChangeNumberError::CallerGone);
                }
                if account.number == number {
                    return Ok(Step::Keep(None));
                }
                let old = std::mem::replace(&mut account.number, number);
                Ok(Step::Write(Some(old)))
            })
            .await?;
        changed.ok_or(ChangeNumberError::CallerGone)
    }
}
