//! The cohorts of a run and what they did to each other.

use super::text::{count, escape, maybe_millis, number, percent};
use crate::outputs::cohorts::{sentences, signed_ms};
use crate::summary::{CohortSummary, Summary};

const NOTE: &str = "Shares of the existing users who do one thing that no client should do, since the surge began. Amplification is attempts over \
    what was wanted. Everything that this report says of existing users is of the polite among them.";

/// Nothing where everybody is polite.
pub(super) fn section(summary: &Summary) -> String {
    if summary.cohorts.is_empty() {
        return String::new();
    }
    let head: String = [
        "cohort",
        "people",
        "wanted",
        "attempts",
        "amplification",
        "ok",
        "refused",
        "failed",
        "ok per second",
        "p99",
        "not taken",
    ]
    .map(|name| format!("<th>{name}</th>"))
    .concat();
    let rows: String = summary.cohorts.iter().map(row).collect();
    let table = format!(
        "<div class=\"wide\"><table class=\"latency\"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    );
    let said: String = sentences(summary)
        .iter()
        .map(|sentence| format!("<p class=\"end-note\">{}</p>", escape(sentence)))
        .collect();
    super::section("Cohorts", NOTE, &(harm(summary) + &table + &said))
}

fn row(cohort: &CohortSummary) -> String {
    let amount = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
    let cells = [
        count(cohort.people),
        count(cohort.first_attempts),
        count(cohort.attempts),
        cohort.amplification.map_or_else(|| "–".to_owned(), |times| format!("× {}", number(times))),
        count(cohort.ok),
        count(cohort.refused),
        count(cohort.failed),
        amount(cohort.goodput_per_s),
        maybe_millis(cohort.p99_ms),
        count(cohort.withheld),
    ];
    let cells = cells.map(|cell| format!("<td class=\"n\">{cell}</td>")).concat();
    format!("<tr><td>{}</td>{cells}</tr>", escape(&cohort.name))
}

/// The figures that a comparison is about.
fn harm(summary: &Summary) -> String {
    let Some(harm) = &summary.harm else { return String::new() };
    let figure = |name: &str, value: String, more: String| {
        format!("<div><dt>{name}</dt><dd>{value}<small>{more}</small></dd></div>")
    };
    let pair = |with: Option<f64>, without: Option<f64>| {
        format!("{} with the rude, {} without", maybe_millis(with), maybe_millis(without))
    };
    let (alone, together) = (&harm.alone, &harm.together);
    let success = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), percent);
    format!(
        "<dl class=\"figures\">{}{}{}{}</dl>",
        figure("harm to the polite, p99", signed_ms(harm.p99_ms), pair(together.p99_ms, alone.p99_ms)),
        figure(
            "the same in the calm",
            signed_ms(harm.calm_p99_ms),
            "nobody is rude there: what chance does".to_owned()
        ),
        figure(
            "polite sends that succeeded",
            success(together.success_ratio),
            format!("{} without the rude", success(alone.success_ratio))
        ),
        figure(
            "arrival, p99",
            maybe_millis(together.deliver_p99_ms),
            pair(together.deliver_p99_ms, alone.deliver_p99_ms)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harm::{Harm, Seen};
    use crate::report::example;

    #[test]
    fn cohorts_have_a_row_each_and_the_harm_its_figures() {
        let (mut summary, rows) = example::run();
        assert!(section(&summary).is_empty());
        summary.cohorts = vec![CohortSummary { name: "hot-loop<b>".to_owned(), ..CohortSummary::default() }];
        let seen = |p99| Seen { p99_ms: Some(p99), ..Seen::default() };
        summary.harm = Some(Harm::between("f".to_owned(), seen(5.0), seen(9.0)));
        let page = super::super::render(&summary, &rows);
        assert!(page.contains("<h2>Cohorts</h2>") && page.contains("hot-loop&lt;b&gt;"), "names are escaped");
        assert!(page.contains("+4 ms") && page.contains("9 ms with the rude, 5 ms without"));
        assert!(!page.contains("NaN"));
    }
}
