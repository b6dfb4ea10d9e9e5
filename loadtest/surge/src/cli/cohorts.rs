//! `surge cohorts`: who does not behave, and how.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::{Args, Subcommand};

use crate::cohorts::Cohort;
use crate::slo::ExitCode;

#[derive(Clone, Debug, Args)]
pub(super) struct CohortsOptions {
    #[command(subcommand)]
    command: Option<CohortsCommand>,
}

#[derive(Clone, Debug, Subcommand)]
enum CohortsCommand {
    /// What a cohort does, who in the world does it, and what keeps it in bounds
    Show {
        /// A name
        #[arg(value_parser = cohort)]
        name: Cohort,
    },
}

fn cohort(name: &str) -> Result<Cohort, String> {
    Cohort::find(name).ok_or_else(|| {
        let meant =
            Cohort::like(name).map_or_else(String::new, |like| format!("; did you mean `{}`?", like.name()));
        format!("no cohort is called so{meant} There are {}", Cohort::names())
    })
}

const COLUMNS: usize = 96;

pub(super) fn show(options: &CohortsOptions) -> ExitCode {
    let text = match &options.command {
        None => list(),
        Some(CohortsCommand::Show { name }) => one(*name),
    };
    // A closed pipe is nobody's business.
    io::stdout().write_all(text.as_bytes()).ok();
    ExitCode::Pass
}

fn list() -> String {
    let mut text = String::new();
    for cohort in Cohort::ALL {
        let about = cohort.about();
        put(&mut text, format_args!("{:<18} {}", about.name, about.summary));
    }
    text.push_str(
        "\nShares of the existing users: --cohorts \"hot-loop=5%,never-acks=5%\", the rest is polite. `surge cohorts show NAME` says more;\n\
         with --harm a run is played twice, and says what the rude did to the polite.\n",
    );
    text
}

fn one(cohort: Cohort) -> String {
    let about = cohort.about();
    let mut text = String::new();
    put(&mut text, format_args!("{}: {}\n", about.name, about.summary));
    for paragraph in [about.does, about.who] {
        put(&mut text, format_args!("{}\n", wrap("  ", paragraph)));
    }
    let source = if about.source.is_empty() { "assumed" } else { about.source };
    let gates =
        format!("{name}.{verb}.response.p99, {name}.{verb}.refused, …", name = about.name, verb = about.verb);
    for (label, fact) in [("source", source), ("at most", about.ceiling), ("gates", &gates)] {
        put(&mut text, format_args!("{}", wrap(&format!("  {label:<9}"), fact)));
    }
    text
}

/// In lines that a terminal shows whole, after a label, the others below the first.
fn wrap(label: &str, paragraph: &str) -> String {
    let (mut text, mut line) = (String::new(), label.to_owned());
    let indent = " ".repeat(label.chars().count());
    for word in paragraph.split_whitespace() {
        let is_first = line.chars().count() == indent.len();
        if !is_first && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            text += &line;
            text.push('\n');
            line.clone_from(&indent);
        } else if !is_first {
            line.push(' ');
        }
        line += word;
    }
    text + &line
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cohort_is_listed_and_can_be_shown() {
        let list = list();
        for cohort in Cohort::ALL {
            let about = cohort.about();
            assert!(list.contains(about.name) && list.contains(about.summary));
            let shown = one(cohort);
            let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains(about.summary) && words.contains(about.ceiling), "{shown}");
            assert!(shown.lines().all(|line| line.chars().count() <= COLUMNS), "{shown}");
        }
        assert!(one(Cohort::RstStreamFlood).contains("CVE-2023-44487"));
        assert!(one(Cohort::Fixed1s).contains("assumed"));
    }

    #[test]
    fn a_wrong_name_gets_the_right_one() {
        assert!(super::cohort("hot-lop").unwrap_err().contains("did you mean `hot-loop`?"));
    }
}
