//! Real servers, killed, frozen and found again.

#![allow(clippy::unwrap_used, reason = "a test may end anywhere")]

mod all {
    mod back_ends;
    /// What is left when the owner of a fleet dies without a word.
    mod owner;
    mod support;
}
