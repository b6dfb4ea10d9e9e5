//! Plays a suite or a scenario file and prints its table: `play [SUITE | FILE] [SEED]`.

use std::process::ExitCode;

use spillway_simulator::{SUITES, Scenario, play, suite, table};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "reduced".to_owned());
    let seed = arguments.next().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let outcome = if SUITES.contains(&name.as_str()) {
        suite(&name, seed).map_err(|error| error.to_string())
    } else {
        std::fs::read_to_string(&name)
            .map_err(|error| error.to_string())
            .and_then(|text| Scenario::parse(&text, &name).map_err(|error| error.to_string()))
            .map(|scenario| {
                let mut progress =
                    |p: spillway_simulator::Progress<'_>| eprint!("\r{} {}/{}  ", p.scenario, p.done, p.of);
                play(&name, &[scenario], seed, &mut progress)
            })
    };
    match outcome {
        Ok(outcome) => {
            println!("{}", table::print(&outcome));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
