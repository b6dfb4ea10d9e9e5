//! The answer to a caller whose quota is used up.

use spillway_admission::{Decision, Limit, Retry};
use spillway_api::{Reason, Refusal};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quota `{}` is used up", .limit.name())]
pub(crate) struct QuotaError {
    limit: Limit,
    retry: Retry,
}

impl QuotaError {
    /// `decision` as a result.
    pub(crate) fn check(limit: Limit, decision: Decision) -> Result<(), Self> {
        decision.refusal().map_or(Ok(()), |retry| Err(Self { limit, retry }))
    }

    pub(crate) fn refusal(self) -> Refusal {
        let name = self.limit.name();
        match self.retry {
            Retry::After(pause) => Refusal::new(Reason::Quota, self.to_string()).retry_after(Some(pause)),
            Retry::Never => {
                Refusal::new(Reason::Quota, format!("quota `{name}` never allows so much in one call"))
            }
        }
    }
}
