//! What needs a database. `cargo xtask test` starts one and says where, in `SPILLWAY_TEST_CQL`.

#![allow(clippy::unwrap_used, reason = "a test may end anywhere")]

mod all {
    mod cql;
}
