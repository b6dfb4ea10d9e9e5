//! The order: first come, first served to within a second, whatever gateway one came to.
//!
//! One holder of the control lease lends blocks of numbers ([`crate::Blocks`]), a gateway gives them out ([`crate::Block`]) for at most a second and
//! then abandons the rest. Why nobody overtakes by more than that second: a number of a block lent at t is given out within
//! [t, t + 1 s], and blocks rise in the order of lending. So if i got the higher number, its block was lent no earlier than j's, and j came
//! at most a second after i. No clocks are compared: the lender counts from its answer, the gateway from its question.
//!
//! For a scheduled opening, see [`crate::Lottery`].

pub(crate) mod blocks;
pub(crate) mod lottery;
