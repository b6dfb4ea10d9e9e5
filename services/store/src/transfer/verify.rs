//! Reads the export once more and every record of it back from the destination.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use spillway_types::{Clock, MailboxId, MessageId};

use super::differences::Differences;
use super::file::Item;
use super::import::{ImportError, ImportOptions, file_error};
use super::monitor::{Monitor, Phase};
use super::record::Record;
use super::section::{Section, Sections, Total};
use super::write::patiently;
use crate::keys::KeyUpload;
use crate::mailboxes::{PageLimit, StoredMessage};
use crate::{Store, StoreError};

/// Messages of one mailbox are read back together.
const BATCH_MESSAGES_MAX: usize = 128;
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// CQL counts lifetimes in whole seconds, and by clocks of its own.
const EXPIRY_MARGIN: Duration = Duration::from_secs(5);

/// A section, as it is on either side. Expired records count on neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    pub source: Total,
    /// Of the records that have the keys of those in the source.
    pub destination: Total,
    /// Records that ended since the export.
    pub expired: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Verified {
    pub sections: Sections<Sides>,
    pub differences: Differences,
}

impl Verified {
    pub fn is_equal(&self) -> bool {
        self.differences.count() == 0
            && self.sections.iter().all(|(_, sides)| sides.source == sides.destination)
    }
}

/// Records that are read back with one call.
enum Group {
    One(Box<Record>),
    Messages { mailbox: MailboxId, messages: Vec<StoredMessage>, bytes: usize },
}

/// A record of the file, and what the destination has in its place.
struct Compared {
    section: Section,
    source: u128,
    destination: Option<u128>,
    /// Only where the two differ.
    name: Option<String>,
    /// A store may have forgotten it by now.
    has_expired: bool,
}

pub(super) async fn verify(
    options: &ImportOptions,
    store: &Store,
    clock: &dyn Clock,
    monitor: &Monitor,
) -> Result<Verified, ImportError> {
    monitor.begin(Phase::Verifying);
    let fail = |error| file_error(options, error);
    let mut reader = super::open(&options.file).map_err(fail)?;
    let mut running = FuturesOrdered::new();
    let mut verified = Verified::default();
    let mut groups = Groups::default();
    let mut is_exhausted = false;
    loop {
        while running.len() < options.concurrency.max(1) && !is_exhausted {
            if monitor.is_stopping() {
                return Err(ImportError::Stopped);
            }
            let next = reader.next().map_err(fail)?;
            is_exhausted = next.is_none();
            running.extend(groups.add(next).map(|(group, end)| compare(store, clock, monitor, group, end)));
        }
        let Some(compared) = running.next().await else {
            return Ok(verified);
        };
        let (compared, end) = compared?;
        monitor.advance(compared.len() as u64, end);
        compared.into_iter().for_each(|compared| verified.add(compared));
    }
}

impl Verified {
    fn add(&mut self, compared: Compared) {
        let sides = &mut self.sections[compared.section];
        if compared.destination.is_none() && compared.has_expired {
            sides.expired += 1;
            return;
        }
        sides.source.add(compared.source);
        if let Some(destination) = compared.destination {
            sides.destination.add(destination);
        }
        if let Some(name) = compared.name {
            let what = if compared.destination.is_some() { "differs" } else { "is missing" };
            self.differences.add(|| format!("{name} {what}"));
        }
    }
}

/// Puts neighbouring messages of one mailbox together.
#[derive(Default)]
struct Groups {
    open: Option<(Group, u64)>,
}

impl Groups {
    /// `None` is the end. Answers with what is complete, and where in the file it ends.
    fn add(&mut self, item: Option<Item>) -> impl Iterator<Item = (Group, u64)> + use<> {
        let Some(Item { record, end }) = item else {
            return self.open.take().into_iter().chain(None);
        };
        let Record::Message { mailbox, message } = record else {
            return self.open.take().into_iter().chain(Some((Group::One(Box::new(record)), end)));
        };
        if let Some((Group::Messages { mailbox: open, messages, bytes }, open_end)) = &mut self.open
            && *open == mailbox
            && messages.len() < BATCH_MESSAGES_MAX
            && *bytes < BATCH_BYTES_MAX
        {
            *bytes += message.envelope.len();
            messages.push(message);
            *open_end = end;
            return None.into_iter().chain(None);
        }
        let bytes = message.envelope.len();
        let group = Group::Messages { mailbox, messages: vec![message], bytes };
        self.open.replace((group, end)).into_iter().chain(None)
    }
}

async fn compare(
    store: &Store,
    clock: &dyn Clock,
    monitor: &Monitor,
    group: Group,
    end: u64,
) -> Result<(Vec<Compared>, u64), StoreError> {
    let compared = match group {
        Group::One(record) => {
            let found = patiently(monitor, || read_back(store, clock, &record)).await?;
            vec![compare_one(&record, found, clock)]
        }
        Group::Messages { mailbox, messages, .. } => {
            let found = patiently(monitor, || read_messages(store, clock, mailbox, &messages)).await?;
            let compare = |(message, found): (StoredMessage, Option<StoredMessage>)| {
                let found = found.map(|message| Record::Message { mailbox, message });
                compare_one(&Record::Message { mailbox, message }, found, clock)
            };
            messages.into_iter().zip(found).map(compare).collect()
        }
    };
    Ok((compared, end))
}

fn compare_one(record: &Record, found: Option<Record>, clock: &dyn Clock) -> Compared {
    let source = record.checksum();
    let destination = found.map(|found| found.checksum());
    Compared {
        section: record.section(),
        source,
        destination,
        name: (destination != Some(source)).then(|| record.name()),
        has_expired: record.has_expired(clock.now().saturating_add(EXPIRY_MARGIN)),
    }
}

/// What the destination has under the key of a record.
async fn read_back(store: &Store, clock: &dyn Clock, record: &Record) -> Result<Option<Record>, StoreError> {
    Ok(match record {
        Record::Account(account) => store.accounts.get(account.id).await?.map(Record::Account),
        Record::Claim(claim) => store.accounts.claimed(&claim.number).await?.map(Record::Claim),
        Record::Directory { number, .. } => {
            let account = store.directory.lookup(&[*number]).await?.into_iter().next().flatten();
            account.map(|account| Record::Directory { number: *number, account })
        }
        Record::Keys { device, .. } => {
            let keys = store.keys.stored(*device).await?;
            (keys != KeyUpload::default()).then_some(Record::Keys { device: *device, keys })
        }
        Record::Settled { mailbox, .. } => {
            Some(Record::Settled { mailbox: *mailbox, settled: store.mailboxes.settled(*mailbox).await? })
        }
        Record::Verification(session) => store.verifications.get(session.id).await?.map(Record::Verification),
        Record::Message { mailbox, message } => {
            let found = read_messages(store, clock, *mailbox, std::slice::from_ref(message)).await?;
            let found = found.into_iter().next().flatten();
            found.map(|message| Record::Message { mailbox: *mailbox, message })
        }
    })
}

/// For each of `wanted`, which are in the order of ids, what the destination has under that id. What it has between
/// them is none of the export's business.
async fn read_messages(
    store: &Store,
    clock: &dyn Clock,
    mailbox: MailboxId,
    wanted: &[StoredMessage],
) -> Result<Vec<Option<StoredMessage>>, StoreError> {
    let limit = PageLimit { messages: BATCH_MESSAGES_MAX, bytes: 2 * BATCH_BYTES_MAX };
    let mut found = Vec::with_capacity(wanted.len());
    let mut after = wanted.first().map_or(MessageId::MIN, |first| before(first.id));
    while found.len() < wanted.len() {
        let page = store.mailboxes.page(mailbox, after, limit, clock.now()).await?;
        let read_up_to = match page.messages.last() {
            Some(last) if page.more => last.id,
            _ => MessageId::from_bytes([u8::MAX; 16]),
        };
        let mut stored = page.messages.into_iter().peekable();
        for message in &wanted[found.len()..] {
            if message.id > read_up_to {
                break;
            }
            while stored.next_if(|stored| stored.id < message.id).is_some() {}
            found.push(stored.next_if(|stored| stored.id == message.id));
        }
        after = read_up_to;
    }
    Ok(found)
}

/// The greatest id below this one.
fn before(id: MessageId) -> MessageId {
    MessageId::from_bytes(u128::from_be_bytes(id.to_bytes()).saturating_sub(1).to_be_bytes())
}
