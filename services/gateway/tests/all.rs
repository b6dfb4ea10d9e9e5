//! The gateway through its public API, with scripted roles behind it.

#![allow(clippy::unwrap_used, reason = "a test may end anywhere")]

mod all {
    mod attestation;
    mod classes;
    mod contacts;
    mod identity;
    mod room;
    mod send;
    mod session;
    mod sign_up;
    mod simulation;
    mod support;
}
