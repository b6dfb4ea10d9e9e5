//! The suite that every run of the tests plays.

use spillway_simulator::{suite, table};

#[test]
fn the_reduced_suite_holds() {
    let outcome = suite("reduced", 1).unwrap();
    println!("{}", table::print(&outcome));
    let missed: Vec<_> =
        outcome.outcomes.iter().flat_map(|outcome| &outcome.rows).filter(|row| !row.pass).collect();
    assert!(missed.is_empty(), "{}", table::rows(missed));
}
