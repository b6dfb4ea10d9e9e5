use std::ops::RangeInclusive;

use spillway_api::internal::v1 as wire;
use spillway_store::leases::HolderId;
use spillway_waiting_room::{Bits, Bound, Claimed, Lent};

/// A gateway's report, as far as it makes sense.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) process: HolderId,
    pub(crate) serial: u64,
    pub(crate) issued: u64,
    pub(crate) abandoned: Vec<RangeInclusive<u64>>,
    pub(crate) claimed: Vec<Claimed>,
    pub(crate) refusing: bool,
    pub(crate) spare: Option<f64>,
    pub(crate) presence: Vec<(u64, Bits)>,
    pub(crate) wanted: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReportError {
    #[error("process_id has 16 bytes")]
    Process,
    #[error("a block of presence has 16 words")]
    Presence,
    #[error("a range of numbers begins after its end")]
    Range,
    #[error("spare is not a rate")]
    Spare,
}

impl TryFrom<wire::ReportRoomRequest> for Report {
    type Error = ReportError;

    fn try_from(request: wire::ReportRoomRequest) -> Result<Self, ReportError> {
        let range = |range: &wire::NumberRange| {
            if range.first <= range.last { Ok(range.first..=range.last) } else { Err(ReportError::Range) }
        };
        let presence = |block: &wire::PresenceBlock| {
            let words = Bits::try_from(block.words.as_slice()).map_err(|_| ReportError::Presence)?;
            Ok((block.block, words))
        };
        if request.spare.is_some_and(|spare| spare.is_nan() || spare < 0.0) {
            return Err(ReportError::Spare);
        }
        Ok(Self {
            process: HolderId(request.process_id.as_ref().try_into().map_err(|_| ReportError::Process)?),
            serial: request.serial,
            issued: request.issued,
            abandoned: request.abandoned.iter().map(range).collect::<Result<_, _>>()?,
            claimed: request
                .claimed
                .iter()
                .map(|claim| Claimed { publication: claim.publication, count: claim.count })
                .collect(),
            refusing: request.refusing,
            spare: request.spare,
            presence: request.presence.iter().map(presence).collect::<Result<_, _>>()?,
            wanted: request.wanted,
        })
    }
}

pub(crate) fn lent(lent: Lent) -> wire::LentNumbers {
    wire::LentNumbers { token: lent.epoch, first: lent.first, count: lent.count }
}

pub(super) const fn bound(bound: Bound) -> wire::RoomBound {
    match bound {
        Bound::Unlimited => wire::RoomBound::Unlimited,
        Bound::Setting => wire::RoomBound::Setting,
        Bound::Provider => wire::RoomBound::Provider,
        Bound::Budget => wire::RoomBound::Budget,
        Bound::Country => wire::RoomBound::Country,
        Bound::Store => wire::RoomBound::Store,
        Bound::Gateways => wire::RoomBound::Gateways,
    }
}

/// For people.
pub(super) const fn bound_text(bound: wire::RoomBound) -> &'static str {
    match bound {
        wire::RoomBound::Unspecified | wire::RoomBound::Unlimited => "nothing bounds it",
        wire::RoomBound::Setting => "the settings allow no more",
        wire::RoomBound::Provider => "providers take no more codes",
        wire::RoomBound::Budget => "the budget pays for no more codes",
        wire::RoomBound::Country => "the budget of the country that most come from pays for no more codes",
        wire::RoomBound::Store => "the store has no more to spare",
        wire::RoomBound::Gateways => "the gateways have no more to spare",
        wire::RoomBound::Operator => "as an operator has ordered",
    }
}
