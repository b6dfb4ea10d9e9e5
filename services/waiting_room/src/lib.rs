//! The waiting room: where sign-ups are while there are more of them than can be served.
//!
//! Nobody queues in a server. Each device holds a [`Ticket`] with its number in the order; one number that all gateways know, the [`Frontier`],
//! says up to which place people are called. So a room of a million costs a gateway nothing but their polls, a place survives the death of any
//! process, and any gateway can answer anybody.
//!
//! Invariants:
//!
//! - Nothing here does I/O, waits, reads a clock or draws a random number: time and randomness are passed in. Memory is bounded, whatever devices do;
//!   each bound is a constant with its reason.
//! - No number is given out twice ([`Blocks`]), and nobody who comes more than a second later gets a lower one.
//! - The frontier never goes back and never passes the last number given out, whoever holds the control lease and whatever clocks do ([`Steering`],
//!   [`View`]).
//! - What a ticket is worth depends on the device's key: a copied ticket claims nothing, and all passes of a ticket have one [`PassId`].
//! - Answers to polls need no memory of who asks. Only two things are remembered of devices, as one bit each: that they were heard of
//!   ([`Presence`], lost at no harm), and that their pass has been used ([`Used`]).
//!
//! Deliberately absent: who is a person (attestation, captcha: a ticket has [`Flags`] for what was found), one live ticket for a device (whoever enters twice has two
//! places and one key; the caller refuses it by its quota on keys), who used a pass first in a fleet (the store), transport, text forms and
//! metrics. A room of more than a day would need time slots; there is none.
//!
//! # From Enter to a pass
//!
//! 1. **Enter.** A [`Puzzle`] first, if it is asked for ([`Door`], [`DifficultyLaw`]). Then the gateway takes a number of its [`Block`], which control has
//!    lent it for a second ([`Blocks::lend`]), and seals a ticket ([`Ticket::seal`]). If the room is empty the number is called already, and the answer is
//!    that of step 3. Before a scheduled opening numbers are lots: [`Lottery::place`] says what they have drawn.
//! 2. **Poll.** [`Ticket::open`] is one hash, [`View::turn`] a comparison: [`Turn::Waiting`]. [`Presence::heard`], [`Outlook::estimate`],
//!    [`Estimate::after`] what the device was told before, and [`Appointments`] say how long still, and when to ask again.
//! 3. **Called.** [`Turn::Called`]: a [`Challenge`] goes out. Two minutes to claim; who misses them is called again when he comes
//!    ([`Turn::CallAgain`]), three times, within half an hour.
//! 4. **Claim.** The device signs ticket and challenge ([`claim_message`], [`claim()`]). It gets a [`Pass`], good for ten minutes; control is told by
//!    [`Claimed`].
//! 5. **Pass.** The device signs it with the number it wants to verify ([`pass_message`], [`Pass::open`]); [`Used::use_up`], or the store, lets it through once. The
//!    sign-up is an ordinary call from here on.
//!
//! ```text
//! control, each second:  limits, claims, abandoned, issued -> Steering::tick -> Frontier ─┐
//!                        Presence -> Steering::crowd -> Forecast::observe -> Outlook ─────┤ published
//!                        Blocks::lend ──────────┐                                         │
//! gateway:   Enter -> puzzle -> Block::take -> Ticket::seal                               v
//!            Poll  -> Ticket::open -> View::turn -> Waiting: Outlook::estimate, Appointments
//!                                         |---------> Called: Challenge -> claim -> Pass
//!                                         |---------> CallAgain: Ticket::seal
//! ```

mod bytes;
mod claim;
mod device;
mod estimate;
mod frontier;
mod keys;
mod order;
mod pass;
mod poll;
mod presence;
mod proof_of_work;
mod ticket;
mod turn;
mod used;

pub use claim::{CHALLENGE_BYTES, CHALLENGE_LIFETIME, Challenge, ClaimError, claim, claim_message};
pub use device::{BadSignature, DeviceHash, DeviceKey, NetworkHash};
pub use estimate::{Estimate, Factors, Forecast, HORIZONS, Learnt, Leaving, Outcomes, Outlook, Reason, Told};
pub use frontier::show_up::Claimed;
pub use frontier::steering::{Bound, Country, Limits, Operator, Steering, SteeringConfig, Tick};
pub use frontier::view::View;
pub use frontier::{Frontier, Mode};
pub use keys::{KeyError, KeyId, SealKeys};
pub use order::blocks::{
    BLOCK, BLOCK_MAX, BLOCK_VALID_FOR, Block, Blocks, Lent, Mark, NoNumber, NotReserved, block_for,
};
pub use order::lottery::{Lottery, Pool};
pub use pass::{PASS_BYTES, PASS_LIFETIME, Pass, PassError, PassId, SealedPass, pass_message};
pub use poll::{Appointments, POLLS_MAX, stretch};
pub use presence::{BLOCK_PLACES, Bits, Crowd, KNOTS, Presence};
pub use proof_of_work::{Difficulty, DifficultyLaw, Door, PUZZLE_MINUTE, Puzzle, WorkError};
pub use ticket::{Flags, Late, Room, SealedTicket, TICKET_BYTES, TICKET_LIFETIME, Ticket, TicketError};
pub use turn::{CLAIM_WINDOW, CLAIMABLE_FOR, LATE_MAX, Turn};
pub use used::{UseError, Used};
