//! The waiting room from outside: what must hold for any input. Experiment E16 is played in `loadtest/simulator`.

mod frontier;
mod passes;
mod tickets;
