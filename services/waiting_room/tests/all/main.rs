//! The waiting room from outside: what must hold for any input, and experiment E16.

mod e16;
mod frontier;
mod passes;
mod tickets;
