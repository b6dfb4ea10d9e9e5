//! The service's own `main`, as an executable that cargo builds for the tests of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    spillway::cli::main()
}
