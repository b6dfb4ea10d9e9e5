use std::time::Duration;

use bytes::Bytes;
use spillway_api::Refusal;
use spillway_rpc::ServiceError;
use spillway_store::accounts::{Account, Device, NumberClaim, Version};
use spillway_store::keys::KeyUpload;
use spillway_store::{Cas, StoreError};
use spillway_types::{AccountId, DeviceAddress, DeviceId, MailboxId, NumberMac, Secret};

use crate::Role;
use crate::accounts::{CAS_ATTEMPTS, mailboxes};
use crate::credential::Credential;
use crate::error;
use crate::metrics::AccountEvent;
use crate::sessions::{Contended, Step};

#[derive(Debug)]
pub(crate) struct NewAccount {
    pub(crate) session: Secret,
    pub(crate) identity_key: Bytes,
    pub(crate) device: NewDevice,
    pub(crate) discoverable: bool,
}

#[derive(Debug)]
pub(crate) struct NewDevice {
    pub(crate) registration_id: u32,
    pub(crate) name: Bytes,
    pub(crate) keys: KeyUpload,
}

/// A device that has just come to be.
#[derive(Clone, Debug)]
pub(crate) struct Enrolled {
    pub(crate) credential: Credential,
    pub(crate) mailbox: MailboxId,
    pub(crate) reregistered: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateAccountError {
    #[error("no such verification session")]
    NotFound,
    #[error("the number has not been proved")]
    NotVerified,
    /// The device that this session made has been replaced or deleted: a late repetition must not take it back.
    #[error("the session has been used")]
    Used,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for CreateAccountError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotFound | Self::Used => error::no_session(),
            Self::NotVerified => error::not_verified(),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    /// Makes the account of a proved number, or gives the number's account a new primary device.
    ///
    /// Order: the claim decides the account; the keys are there before the device is; the account exists before the
    /// directory names it, and before the session says that it has made it. Ids, credential and mailbox are derived
    /// from the session's secret, so a repetition goes on where an earlier call stopped.
    pub(crate) async fn create_account(&self, new: NewAccount) -> Result<Enrolled, CreateAccountError> {
        let id = self.secrets.verification_id(&new.session);
        let session = self.sessions.get(id).await?.ok_or(CreateAccountError::NotFound)?;
        if !session.verified {
            return Err(CreateAccountError::NotVerified);
        }
        let _turn = self.turns.take(session.number).await;
        let session = self.sessions.get(id).await?.ok_or(CreateAccountError::NotFound)?;
        let mailbox = self.secrets.primary_mailbox(&new.session, session.created_at);
        if let Some(account) = session.account {
            return self.made_before(&new.session, mailbox, account).await;
        }
        let (account, retired) = self.take_number(&new, mailbox, session.number).await?;
        let enrolled = self.enrolled(&new.session, mailbox, &account);
        if enrolled.reregistered {
            self.announce(account.id).await;
        }
        self.retire(retired);
        let remember = self.sessions.change_from(session, |session, _| {
            if session.account.is_some() {
                return Ok::<_, StoreError>(Step::Keep(()));
            }
            session.account = Some(account.id);
            Ok(Step::Write(()))
        });
        let is_indexed = account.discoverable || enrolled.reregistered;
        let index = async { if is_indexed { self.index(&account).await } else { Ok(()) } };
        futures::future::try_join(remember, index).await?;
        Ok(enrolled)
    }

    async fn made_before(
        &self,
        session: &Secret,
        mailbox: MailboxId,
        account: AccountId,
    ) -> Result<Enrolled, CreateAccountError> {
        let account = self.accounts.get(account).await?;
        let account = account.filter(|account| has_primary(account, mailbox));
        let account = account.ok_or(CreateAccountError::Used)?;
        // The call that made it may have stopped before this.
        self.index(&account).await?;
        Ok(self.enrolled(session, mailbox, &account))
    }

    /// Answers with the account as it stands, and the mailboxes of the devices that were replaced.
    async fn take_number(
        &self,
        new: &NewAccount,
        mailbox: MailboxId,
        number: NumberMac,
    ) -> Result<(Account, Vec<MailboxId>), CreateAccountError> {
        let proposed = NumberClaim { number, account: self.secrets.proposed_account(&new.session) };
        for _ in 0..CAS_ATTEMPTS {
            let claim = self.accounts.claim(proposed).await?;
            let found = self.accounts.get(claim.account).await?;
            match &found {
                // Left by a change of number that stopped before giving its old number up.
                Some(account) if account.number != number => {
                    self.accounts.release(claim).await?;
                    continue;
                }
                Some(account) if has_primary(account, mailbox) => {
                    return Ok((account.clone(), Vec::new()));
                }
                _ => {}
            }
            let account = self.with_new_primary(new, mailbox, claim, found.as_ref());
            self.keys.upload(mailbox, &new.device.keys, self.config.keys.one_time_max).await?;
            let expected = found.as_ref().map(|account| account.version);
            if self.accounts.put(&account, expected).await? == Cas::Conflict {
                continue;
            }
            // The account that this claim was for is not there: perhaps it is being deleted, and its claim released.
            if found.is_none() && claim != proposed && self.accounts.claim(claim).await? != claim {
                // Nobody knows its only device yet, so a conflict can only mean that it is gone already.
                match self.accounts.delete(account.id, account.version).await? {
                    Cas::Applied | Cas::Conflict => continue,
                }
            }
            self.metrics.account(if found.is_some() {
                AccountEvent::Reregistered
            } else {
                AccountEvent::Created
            });
            return Ok((account, found.map(|account| mailboxes(&account.devices)).unwrap_or_default()));
        }
        Err(StoreError::from(Contended).into())
    }

    fn with_new_primary(
        &self,
        new: &NewAccount,
        mailbox: MailboxId,
        claim: NumberClaim,
        found: Option<&Account>,
    ) -> Account {
        let now = self.clock.now();
        let address = DeviceAddress { account: claim.account, device: DeviceId::PRIMARY };
        let secret = self.secrets.primary_credential(&new.session, claim.account);
        let created_at = found.map_or(now, |account| account.created_at);
        // Later than the account itself: that is how a repeated call knows a re-registration.
        let earliest =
            found.map_or(now, |account| account.created_at.saturating_add(Duration::from_micros(1)));
        Account {
            id: claim.account,
            version: found.map_or(Version::FIRST, |account| account.version.next()),
            number: claim.number,
            identity_key: new.identity_key.clone(),
            discoverable: new.discoverable,
            created_at,
            devices: vec![Device {
                id: DeviceId::PRIMARY,
                mailbox,
                credential: self.secrets.credential_hash(address, &secret),
                registration_id: new.device.registration_id,
                name: new.device.name.clone(),
                linked_at: now.max(earliest),
            }],
        }
    }

    fn enrolled(&self, session: &Secret, mailbox: MailboxId, account: &Account) -> Enrolled {
        let device = DeviceAddress { account: account.id, device: DeviceId::PRIMARY };
        let secret = self.secrets.primary_credential(session, account.id);
        Enrolled {
            credential: Credential { device, secret },
            mailbox,
            reregistered: account
                .devices
                .iter()
                .any(|d| d.id.is_primary() && d.linked_at > account.created_at),
        }
    }
}

/// Whether the account's primary device is the one with this mailbox, which its session derives.
fn has_primary(account: &Account, mailbox: MailboxId) -> bool {
    account.devices.iter().any(|device| device.id.is_primary() && device.mailbox == mailbox)
}
