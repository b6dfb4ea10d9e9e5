//! Admissions from the waiting room, as gateways tell of them.

use std::time::Duration;

use spillway_api::FieldError;
use spillway_api::internal::v1 as internal;

/// A place in the room that was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) room: u32,
    pub(crate) number: u64,
    /// For how long yet the place may be shown again, and must open no other session.
    pub(crate) shown_for: Duration,
}

/// For gateways of a version that does not say: more than the hour and ten minutes for which a place could be shown then.
const SHOWN_FOR: Duration = Duration::from_secs(7_200);
/// So that no mistake of a gateway's fills the store: a session takes some 300 bytes for this long.
const SHOWN_FOR_MAX: Duration = Duration::from_secs(24 * 3_600);

impl Pass {
    pub(crate) fn decode(pass: &internal::Pass) -> Result<Self, FieldError> {
        let shown_for = match pass.shown_for {
            None => SHOWN_FOR,
            Some(shown_for) => Duration::try_from(shown_for)
                .ok()
                .filter(|shown_for| *shown_for <= SHOWN_FOR_MAX)
                .ok_or_else(|| FieldError::new("pass.shown_for", "must be between 0 and 24 h"))?,
        };
        Ok(Self { room: pass.room, number: pass.number, shown_for })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_cannot_be_is_refused_and_none_is_two_hours() {
        let decode = |seconds: Option<i64>| {
            let shown_for = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
            Pass::decode(&internal::Pass { room: 0, number: 1, shown_for })
                .map(|pass| pass.shown_for.as_secs())
        };
        assert_eq!(decode(None), Ok(7_200));
        assert_eq!(decode(Some(4_205)), Ok(4_205));
        assert_eq!(decode(Some(86_400)), Ok(86_400));
        assert!(decode(Some(86_401)).is_err());
        assert!(decode(Some(-1)).is_err());
    }
}
