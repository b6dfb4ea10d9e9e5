//! Figures of several systems side by side, and what they are worth.

use std::fmt::Write;

use super::{CLASS_KEY, Class, DOES_NOT_KEY};
use crate::load::Op;
use crate::slo::Verdict;
use crate::summary::{EXISTING_SEND, Summary};
use crate::workload::DELIVER;

/// Runs against one system.
#[derive(Clone, Debug)]
pub struct Side {
    pub name: String,
    pub runs: Vec<Summary>,
}

impl Side {
    pub fn of(name: &str) -> Self {
        Self { name: name.to_owned(), runs: Vec::new() }
    }

    /// Of its last run.
    pub fn class(&self) -> Class {
        self.said(CLASS_KEY).map_or(Class::Unknown, Class::of_report)
    }

    fn said(&self, key: &str) -> Option<&str> {
        self.runs.last()?.configuration.get(key).map(String::as_str)
    }

    /// Those of which the load tool says that they count.
    fn valid(&self) -> impl Iterator<Item = &Summary> {
        self.runs.iter().filter(|run| !matches!(run.verdict, Verdict::Invalid | Verdict::Interrupted))
    }

    /// Over the runs that count.
    fn median(&self, of: impl Fn(&Summary) -> Option<f64>) -> Option<Spread> {
        let mut values: Vec<f64> = self.valid().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Spread { low, middle, high, runs: values.len() })
    }

    fn sum(&self, of: impl Fn(&Summary) -> u64) -> u64 {
        self.runs.iter().map(of).sum()
    }
}

/// Of one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    low: f64,
    middle: f64,
    high: f64,
    runs: usize,
}

impl Spread {
    fn text(self) -> String {
        match self.runs {
            1 => format!("{:.2}", self.middle),
            _ => format!("{:.2} ({:.2}–{:.2})", self.middle, self.low, self.high),
        }
    }
}

/// A figure of one run.
type Figure<'a> = &'a dyn Fn(&Summary) -> Option<f64>;

/// One column for each system. Times are medians of the runs, with the lowest and highest; counts are of all runs together.
pub fn table(sides: &[Side]) -> String {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut row = |name: &str, of: &dyn Fn(&Side) -> String| {
        rows.push((name.to_owned(), sides.iter().map(of).collect()))
    };
    row("", &|side| side.name.clone());
    row("durability of an acknowledgement", &|side| side.class().name().to_owned());
    row("runs that count", &|side| format!("{} of {}", side.valid().count(), side.runs.len()));
    let figures: [(&str, Figure<'_>); 6] = [
        ("send to acknowledgement, p50 ms", &|run| run.operations.get(EXISTING_SEND.0)?.response_ms.p50),
        ("send to acknowledgement, p99 ms", &|run| run.operations.get(EXISTING_SEND.0)?.response_ms.p99),
        ("send to arrival, p50 ms", &|run| run.operations.get(DELIVER.0)?.response_ms.p50),
        ("send to arrival, p99 ms", &|run| run.operations.get(DELIVER.0)?.response_ms.p99),
        ("server, µs of processor per operation", &|run| run.server.cpu_us_per_op),
        ("load tool's lag, p99 ms", &|run| run.generator.lag_p99_ms),
    ];
    for (name, of) in figures {
        row(name, &|side| side.median(of).map_or_else(|| "–".to_owned(), Spread::text));
    }
    let of_sends = |of: fn(&crate::summary::OperationSummary) -> u64| {
        move |run: &Summary| run.operations.get(EXISTING_SEND.0).map_or(0, of)
    };
    row("sends offered", &|side| side.sum(of_sends(|sends| sends.offered)).to_string());
    row("refused, failed", &|side| {
        format!("{}, {}", side.sum(of_sends(|sends| sends.refused)), side.sum(of_sends(|sends| sends.failed)))
    });
    row("acknowledged", &|side| side.sum(|run| run.ledger.acked).to_string());
    row("delivered", &|side| side.sum(|run| run.ledger.delivered).to_string());
    row("lost, duplicated", &|side| {
        format!("{}, {}", side.sum(|run| run.ledger.lost), side.sum(|run| run.ledger.duplicated))
    });
    row("reordered, changed", &|side| {
        format!("{}, {}", side.sum(|run| run.ledger.reordered), side.sum(|run| run.ledger.corrupted))
    });
    aligned(&rows)
}

fn aligned(rows: &[(String, Vec<String>)]) -> String {
    let columns = rows.first().map_or(0, |(_, cells)| cells.len());
    let wide = |cell: &str| cell.chars().count();
    let width = |column: usize| rows.iter().map(|(_, cells)| wide(&cells[column])).max().unwrap_or(0);
    let names = rows.iter().map(|(name, _)| wide(name)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (name, cells) in rows {
        let cells: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        // A string takes everything.
        writeln!(text, "{name:<names$}  {}", cells.join("  ")).ok();
    }
    text
}

/// Under which rules the figures came about, and which of them this machine and these settings did not keep.
pub fn rules(sides: &[Side], left_out: &[Op], repeats: u64) -> String {
    let first = sides.iter().find_map(|side| side.runs.first());
    let said = |key: &str| first.and_then(|run| run.configuration.get(key)).cloned().unwrap_or_default();
    let seconds = first.map_or(0.0, |run| run.duration_s);
    let in_turns = match repeats {
        1 => "One round: nothing is known of how much runs differ. --repeats 5 and more, in turns, says it."
            .to_owned(),
        rounds => {
            format!("{rounds} rounds in turns (A B, B A, …); times are medians of the runs that count.")
        }
    };
    let build = match cfg!(debug_assertions) {
        true => " This is a debug build of the load tool: its times and rates say nothing about anybody.",
        false => "",
    };
    let mut text = format!(
        "Rules\n\
         - One at a time, all on this machine or where they say they are. {in_turns} A run in which the load tool was late is left out.{build}\n\
         - The same load from the same planned moments, the same people and seed: {}; {}; payload {} of noise. {seconds:.0} s a run with the calm; \
         120 s and more after 30 s of warm-up are needed before a difference is news.\n\
         - No TLS anywhere. Loopback hides what a network costs.\n\
         - Processors are shared by the load tool and what it asks, unless both were started with `taskset`; then cost per message is the figure to \
         compare, and not the highest rate.\n\
         - D0: an acknowledged message is in memory alone; D1: written, survives `kill -9`; D2: synced, survives the loss of power as far as the disk keeps its word. \
         Figures of two classes are not compared.\n",
        said("duration"),
        said("existing_users"),
        said("payload"),
    );
    if !left_out.is_empty() {
        let names: Vec<_> = left_out.iter().map(|op| op.name()).collect();
        writeln!(
            text,
            "- Left out of the load for all, because not all have an equal of it: {}.",
            names.join(", ")
        )
        .ok();
    }
    for side in sides {
        writeln!(text, "\n{}", side.name).ok();
        for key in ["system", CLASS_KEY, "acknowledged", "delivery", "connections", DOES_NOT_KEY] {
            if let Some(value) = side.said(key).filter(|value| !value.is_empty()) {
                writeln!(text, "  {}: {value}", key.replace('_', " ")).ok();
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    fn side(name: &str, durability: &str, p99s: &[f64]) -> Side {
        let run = |p99: &f64| {
            let (mut run, _) = example::run();
            run.verdict = if p99.is_nan() { Verdict::Invalid } else { Verdict::Pass };
            run.operations.entry(EXISTING_SEND.0.to_owned()).or_default().response_ms.p99 = Some(*p99);
            run.configuration.insert(CLASS_KEY.to_owned(), durability.to_owned());
            run
        };
        Side { name: name.to_owned(), runs: p99s.iter().map(run).collect() }
    }

    #[test]
    fn times_are_medians_of_the_runs_that_count() {
        let sides =
            [side("ours", "D2: synced", &[3.0, 1.0, f64::NAN, 8.0]), side("theirs", "D1: not", &[5.0])];
        let text = table(&sides);
        let line =
            |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{text}"));
        assert!(line("send to acknowledgement, p99").contains("3.00 (1.00–8.00)"), "{text}");
        assert!(line("send to acknowledgement, p99").ends_with(" 5.00"), "{text}");
        assert!(
            line("runs that count").contains("3 of 4") && line("runs that count").ends_with("1 of 1"),
            "{text}"
        );
        assert!(line("durability").contains("D2") && line("durability").ends_with("D1"), "{text}");
        let even = side("x", "D2", &[1.0, 2.0]).median(|run| run.operations[EXISTING_SEND.0].response_ms.p99);
        assert_eq!(even.map(|spread| spread.middle), Some(1.5));
    }

    #[test]
    fn the_rules_say_what_was_not_kept() {
        let sides = [side("ours", "D2: synced", &[3.0]), side("theirs", "D1: not synced", &[5.0])];
        let text = rules(&sides, &[Op::SignUp], 1);
        for said in
            ["One round", "Left out of the load for all", "signup", "durability: D1: not synced", "theirs"]
        {
            assert!(text.contains(said), "{said} in {text}");
        }
        assert!(!rules(&sides, &[], 5).contains("Left out"));
    }
}
