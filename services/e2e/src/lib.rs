//! The whole system from outside: tests with real processes in `tests/`, and measurements in [`bench`].

pub mod bench;
