//! The page of a waiting room in virtual time.

use spillway_simulator::room::Second;

use super::axis::Axis;
use super::chart::{Mark, Tick};
use super::scale::{Combine, from_zero};
use super::text::{count, escape, number};
use super::{page, section, tables};
use crate::room_million::RoomMillion;
use crate::slo::Verdict;

/// The whole page.
pub fn render(outcome: &RoomMillion) -> String {
    let title = escape(&format!("{} · surge {}", outcome.headline, outcome.profile));
    let body = [
        header(outcome),
        section("Rows", "What must hold, and what came out.", &tables::gate_table(&outcome.gates)),
        section(
            "In and out",
            "People who come within a minute, the places that are called, and the seats that there are.",
            &flow(outcome),
        ),
        section(
            "The room",
            "Places that were not called yet, those who gave up included; and the polls that they cost.",
            &room(outcome),
        ),
        section(
            "Told and waited",
            "By the second of the call: the middle of the range that people were told first, and what they waited from then on.",
            &truth(outcome),
        ),
    ];
    page(&title, &body.concat())
}

fn header(outcome: &RoomMillion) -> String {
    let pass = outcome.verdict == Verdict::Pass;
    let (word, class) = if pass { ("PASS", "good") } else { ("FAIL", "bad") };
    format!(
        "<header><p class=\"eyebrow\">surge<span>{}</span><span>seed {}</span></p><h1>{}</h1>\
         <p class=\"lede\"><b class=\"pill {class}\">{word}</b> {} people came within a minute to five gateways, of which one was killed after \
         30 seconds. {} claimed their turn, the rest gave up or did not come; the room was empty after {} seconds and {} polls. Virtual time, \
         the code of the service.</p></header>\n",
        escape(&outcome.profile),
        outcome.seed,
        escape(&outcome.headline),
        count(outcome.people),
        count(outcome.claims),
        number(outcome.empty_at_s),
        count(outcome.polls),
    )
}

fn axis(outcome: &RoomMillion) -> Axis<'_, Second> {
    let length = outcome.seconds.len() as f64;
    let (_, ticks) = from_zero(length);
    let inside = ticks.into_iter().filter(|at| *at <= length);
    let ticks = inside.map(|at| Tick { at, label: format!("{at} s"), minor: false }).collect();
    let phases = vec![Mark { at: 30.0, label: "a gateway dies".to_owned() }];
    Axis::new(&outcome.seconds, ticks, phases, |at, _| at as f64, |at, _| format!("{at} s"))
}

fn flow(outcome: &RoomMillion) -> String {
    let axis = axis(outcome);
    let mean = Combine::Mean;
    // Arrivals are many times the rest, and over in a minute: they are in the text.
    let lines = vec![
        axis.line("called", "two", mean, |second| Some(second.called.into())),
        axis.line("claimed", "one", mean, |second| Some(second.claimed.into())),
        axis.line("seats", "three", mean, |second| Some(second.rate)),
    ];
    axis.chart("Places called, turns claimed and seats, per second.".to_owned(), "per second", lines).html()
}

fn room(outcome: &RoomMillion) -> String {
    let axis = axis(outcome);
    let length = axis.line("waiting", "one", Combine::Highest, |second| Some(second.waiting.into()));
    let polls = axis.line("polls", "two", Combine::Highest, |second| Some(second.polls.into()));
    format!(
        "<div class=\"pair\">{}{}</div>",
        axis.chart("Places that were not called yet.".to_owned(), "places not called", vec![length]).html(),
        axis.chart("Polls of the whole room.".to_owned(), "polls per second", vec![polls]).html()
    )
}

fn truth(outcome: &RoomMillion) -> String {
    let axis = axis(outcome);
    let lines = vec![
        axis.line("told", "two", Combine::Mean, |second| second.told_s),
        axis.line("waited", "one", Combine::Mean, |second| second.waited_s),
    ];
    axis.chart("What people were told at first, and what they waited.".to_owned(), "seconds", lines).html()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::ExitCode;
    use crate::summary::SCHEMA_VERSION;

    #[test]
    fn the_page_stands_alone() {
        let second = Second { called: 5, told_s: Some(60.0), ..Second::default() };
        let outcome = RoomMillion {
            schema_version: SCHEMA_VERSION,
            verdict: Verdict::Pass,
            exit_code: ExitCode::Pass,
            headline: "<all>".to_owned(),
            profile: "room-million".to_owned(),
            seed: 1,
            people: 1_000_000,
            gates: Vec::new(),
            empty_at_s: 900.0,
            claims: 900_000,
            polls: 5_000_000,
            seconds: vec![second; 900],
        };
        let page = render(&outcome);
        for outside in ["http:", "https:", "src=", "@import", "url(", "NaN", "<all>"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("class=\"line ").count(), 7);
    }
}
