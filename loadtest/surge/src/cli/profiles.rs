//! `surge profiles`: what there is, and what it is based on.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::{Args, Subcommand};

use crate::catalog::{self, ENTRIES, Entry, Grade};
use crate::language::{Expression, in_words};
use crate::load::BaseRates;
use crate::plan::draw;
use crate::profile::Profile;
use crate::slo::ExitCode;

#[derive(Clone, Debug, Args)]
pub(super) struct ProfilesOptions {
    #[command(subcommand)]
    command: Option<ProfilesCommand>,
}

#[derive(Clone, Debug, Subcommand)]
enum ProfilesCommand {
    /// What a profile plays, in multiples of base rates, and what is known of it
    Show {
        /// A name, or a load such as "spike then flap"
        name: Profile,
    },
}

/// One of each: so that curves are multiples.
const ONE: BaseRates = BaseRates { sign_up: 1.0, send: 1.0, discover: 1.0, people: 1.0, offline: 1.0 };

pub(super) fn show(options: &ProfilesOptions) -> ExitCode {
    let text = match &options.command {
        None => Ok(list()),
        Some(ProfilesCommand::Show { name }) => one(name.name()),
    };
    match text {
        Ok(text) => {
            // A closed pipe is nobody's business.
            io::stdout().write_all(text.as_bytes()).ok();
            ExitCode::Pass
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::Usage
        }
    }
}

fn list() -> String {
    let mut text = String::new();
    for entry in &ENTRIES {
        let parameters: Vec<_> = entry.parameters.iter().map(|parameter| parameter.name).collect();
        let parameters =
            if parameters.is_empty() { String::new() } else { format!(" ({})", parameters.join(", ")) };
        put(&mut text, format_args!("{:<18} {}{parameters}", entry.name, entry.purpose));
    }
    text.push_str(
        "\nThey can be combined: \"refugees in 60s then spike(to=20x, hold=10s)\", \"steady + midnight\", \"spike x 2.5\",\n\
         \"send(30s@50,1m@200)\". `surge profiles show NAME` says more, `surge plan \"…\"` draws it for this machine.\n",
    );
    text
}

fn one(name: &str) -> anyhow::Result<String> {
    let expression = Expression::parse(name)?;
    let mut text = String::new();
    if let Some(entry) = expression.alone() {
        describe(&mut text, entry);
        if entry.is_scene() {
            text.push_str("It plays more than rates, and cannot be combined. `surge run --profile ");
            text.push_str(&format!("{name} --help` says what can be changed.\n"));
            return Ok(text);
        }
    }
    let load = expression.load(&ONE)?;
    put(&mut text, format_args!("Multiples of the base rates over {}:\n", in_words(load.duration())));
    text.push_str(&draw(&load));
    for word in load.behaviour.words() {
        put(&mut text, format_args!("  {word}"));
    }
    if expression.alone().is_none() {
        for entry in expression.entries() {
            text.push('\n');
            describe(&mut text, entry);
        }
    }
    Ok(text)
}

fn describe(text: &mut String, entry: &Entry) {
    put(text, format_args!("{}\n{}\n", entry.name, entry.purpose));
    for evidence in entry.evidence {
        let grade = match evidence.grade {
            Grade::Stated => "stated",
            Grade::Derived => "derived",
            Grade::Assumed => "assumed",
        };
        put(text, format_args!("  {grade:<8} {} [{}]", evidence.says, evidence.source));
    }
    for parameter in entry.parameters {
        put(text, format_args!("  {}={}: {}", parameter.name, parameter.default, parameter.says));
    }
    debug_assert!(catalog::find(entry.name).is_some());
    text.push('\n');
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_listed_and_can_be_shown() {
        let list = list();
        for entry in &ENTRIES {
            assert!(list.contains(entry.name));
            let shown = one(entry.name).unwrap();
            assert!(shown.contains(entry.purpose) && shown.contains(entry.evidence[0].source), "{shown}");
            assert!(entry.is_scene() || shown.contains('█'), "{shown}");
        }
        assert!(one("spike then flap").unwrap().contains("Centrifugo"));
        assert!(one("nonsense").is_err());
    }
}
