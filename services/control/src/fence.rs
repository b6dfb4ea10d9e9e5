use spillway_store::leases::FencingToken;

/// The highest token that was heard. A pause or a slow network may deliver what a holder of the past has said; whoever
/// listens asks the fence first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fence {
    highest: Option<FencingToken>,
}

impl Fence {
    /// Whether to obey what came with `token`. From then on no lower one is obeyed.
    #[must_use]
    pub(crate) fn admit(&mut self, token: FencingToken) -> bool {
        let admitted = self.allows(token);
        if admitted {
            self.highest = Some(token);
        }
        admitted
    }

    /// The same without remembering.
    pub(crate) fn allows(&self, token: FencingToken) -> bool {
        self.highest.is_none_or(|highest| token >= highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_token_is_not_obeyed_after_a_newer_one() {
        let mut fence = Fence::default();
        let answers = [3, 3, 5, 4, 5, 3, 6].map(|token| fence.admit(FencingToken(token)));
        assert_eq!(answers, [true, true, true, false, true, false, true]);
    }
}
