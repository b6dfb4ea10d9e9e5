//! The whole system, from outside. One binary, so that it is linked once.

#![allow(clippy::disallowed_methods, reason = "tests own their tasks through join sets and real time")]

mod all {
    /// Who may depend on whom.
    mod arrows;
}
