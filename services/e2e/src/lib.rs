//! The whole system from outside: tests with real processes in `tests/`, measurements in [`mod@bench`], and faults under
//! load in [`mod@fault`].

pub mod bench;
pub mod fault;
