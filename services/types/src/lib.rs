//! Ids, phone numbers, secrets and time: the plain data that every crate shares.
//!
//! No I/O apart from the operating system's clock and random numbers, no gRPC, no configuration. A value of one
//! of these types is valid by construction, so that nothing past the edge of the system checks it again.

mod clock;
mod id;
mod message_id;
mod number;
mod secret;

pub use clock::{Clock, SystemClock, TestClock, Timestamp};
pub use id::{AccountId, DeviceAddress, DeviceId, Guid, IdError, MailboxId};
pub use message_id::{MessageId, MessageIdGenerator};
pub use number::{NumberError, NumberMac, NumberTag, Pepper, PhoneNumber};
pub use secret::{KeyedHash, Secret, SecretError, random_bytes};
