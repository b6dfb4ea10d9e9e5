//! The whole system from outside: tests with real processes in `tests/`, and measurements in [`mod@bench`].

pub mod bench;
