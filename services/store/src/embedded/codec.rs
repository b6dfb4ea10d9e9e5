//! The bytes of stored values: a version, then fields in a fixed order, integers big-endian, variable ones with a
//! length before them.
//!
//! A version is raised when fields change; the reader of a value then knows every version that was ever written.

use bytes::Bytes;
use spillway_types::{AccountId, Guid, KeyedHash, MailboxId, NumberMac, Timestamp};

use crate::StoreError;

#[derive(Debug)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn new(version: u8) -> Self {
        Self(vec![version])
    }

    pub(crate) fn with_capacity(version: u8, fields: usize) -> Self {
        let mut bytes = Vec::with_capacity(1 + fields);
        bytes.push(version);
        Self(bytes)
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn time(self, value: Timestamp) -> Self {
        self.u64(value.as_micros())
    }

    pub(crate) fn array<const N: usize>(mut self, value: &[u8; N]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn bytes(self, value: &[u8]) -> Self {
        let length = u32::try_from(value.len()).expect("a field is far smaller than 4 GiB");
        self.u32(length).rest(value)
    }

    /// The last field, without a length.
    pub(crate) fn rest(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    /// Whether there is a value, then the value.
    pub(crate) fn option<T>(self, value: Option<T>, encode: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => encode(self.u8(1), value),
            None => self.u8(0),
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoder<'a> {
    left: &'a [u8],
    what: &'static str,
}

type Decoded<T> = Result<T, StoreError>;

impl<'a> Decoder<'a> {
    /// `what` names the value in errors.
    pub(crate) const fn new(what: &'static str, value: &'a [u8]) -> Self {
        Self { left: value, what }
    }

    /// Reads the version, of which there is only one so far.
    pub(crate) fn version(&mut self, known: u8) -> Decoded<()> {
        match self.u8()? {
            version if version == known => Ok(()),
            version => Err(self.corrupt(format!("unknown version {version}"))),
        }
    }

    pub(crate) fn version_up_to(&mut self, v: u8) -> Decoded<u8> {
        let x = self.u8()?;
        if x <= v && x > 0 { Ok(x) } else { Err(self.corrupt(format!("unknown version {x}"))) }
    }
    pub(crate) fn u8(&mut self) -> Decoded<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn bool(&mut self) -> Decoded<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.corrupt(format!("{other} is neither true nor false"))),
        }
    }

    pub(crate) fn u32(&mut self) -> Decoded<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Decoded<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn time(&mut self) -> Decoded<Timestamp> {
        self.u64().map(Timestamp::from_micros)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let Some((value, left)) = self.left.split_first_chunk() else {
            return Err(self.corrupt(format!("ends {} bytes early", N - self.left.len())));
        };
        self.left = left;
        Ok(*value)
    }

    pub(crate) fn bytes(&mut self) -> Decoded<Bytes> {
        let length = self.u32()? as usize;
        let Some((value, left)) = self.left.split_at_checked(length) else {
            return Err(self.corrupt(format!("ends {} bytes early", length - self.left.len())));
        };
        self.left = left;
        Ok(Bytes::copy_from_slice(value))
    }

    pub(crate) fn option<T>(&mut self, decode: impl FnOnce(&mut Self) -> Decoded<T>) -> Decoded<Option<T>> {
        if self.bool()? { decode(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn account(&mut self) -> Decoded<AccountId> {
        self.array().map(AccountId::from_bytes)
    }

    pub(crate) fn mailbox(&mut self) -> Decoded<MailboxId> {
        self.array().map(MailboxId::from_bytes)
    }

    pub(crate) fn guid(&mut self) -> Decoded<Guid> {
        self.array().map(Guid::from_bytes)
    }

    pub(crate) fn number(&mut self) -> Decoded<NumberMac> {
        self.array().map(NumberMac::from_bytes)
    }

    pub(crate) fn hash(&mut self) -> Decoded<KeyedHash> {
        self.array().map(KeyedHash::from_bytes)
    }

    /// The last field, without a length.
    pub(crate) fn rest(self) -> Bytes {
        Bytes::copy_from_slice(self.left)
    }

    pub(crate) fn end(self) -> Decoded<()> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(self.corrupt(format!("{} bytes too long", self.left.len())))
        }
    }

    pub(crate) fn corrupt(&self, problem: impl Into<String>) -> StoreError {
        StoreError::Corrupt { what: self.what, problem: problem.into() }
    }
}
