//! Somebody whom nobody hears for now.

use std::fmt;
use std::sync::Arc;

use crate::admission::{Shared, Waiter};
use crate::class::Level;
use crate::class::cohort::User;
use crate::gate::unheard::Rate;

/// A caller who is not heard for now. What he says is offered all the same, and counted as that for as long as this lives: otherwise
/// the gate would believe that he has gone, and open to the next one.
pub struct Unheard<W: Waiter> {
    shared: Arc<Shared<W>>,
    level: Level,
    user: User,
    rate: Rate,
}

impl<W: Waiter> Unheard<W> {
    pub(super) fn new(shared: &Arc<Shared<W>>, level: Level, user: User) -> Self {
        Self { shared: Arc::clone(shared), level, user, rate: Rate::default() }
    }

    /// He asks for so many seats a second from now on, as far as is known.
    pub fn offers(&mut self, seats_per_second: f64) {
        let rate = self.shared.gate.rate(self.level, seats_per_second);
        self.shared.gate.unheard().replace(self.level, self.rate, rate);
        self.rate = rate;
    }

    /// Whether he would be let in, and is likely to be let in for some time.
    pub fn is_welcome(&self) -> bool {
        self.shared.gate.welcomes(self.level, self.user)
    }
}

impl<W: Waiter> Drop for Unheard<W> {
    fn drop(&mut self) {
        self.shared.gate.unheard().replace(self.level, self.rate, Rate::default());
    }
}

impl<W: Waiter> fmt::Debug for Unheard<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, rate, .. } = self;
        f.debug_struct("Unheard").field("level", level).field("rate", rate).finish_non_exhaustive()
    }
}
