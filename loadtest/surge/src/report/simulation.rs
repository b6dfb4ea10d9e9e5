//! The page of a simulation: rows, comparisons, and a curve for every law in every scenario.

use spillway_simulator::{Comparison, Key, Law, Outcome, RunOutcome, Series, SuiteOutcome, Tally, table};

use super::chart::{Chart, Line, Mark, Tick};
use super::text::{count, escape, number};
use super::{page, section};

/// The whole page.
pub fn render(suite: &SuiteOutcome) -> String {
    let missed = suite.missed();
    let headline = match missed {
        0 => "Every row holds.".to_owned(),
        1 => "One row does not hold.".to_owned(),
        missed => format!("{missed} rows do not hold."),
    };
    let title = escape(&format!("{headline} · surge simulate {}", suite.name));
    let scenarios: String = suite.outcomes.iter().map(scenario).collect();
    let body = [
        header(suite, &headline, missed == 0),
        section(
            "Rows",
            "What must hold for our own controllers, and the worst of the runs it holds for.",
            &rows(suite),
        ),
        section(
            "Against other laws",
            "The same runs, the same seed, the figure that each scenario compares by.",
            &comparisons(&suite.comparisons),
        ),
        scenarios,
    ]
    .concat();
    page(&title, &body)
}

fn header(suite: &SuiteOutcome, headline: &str, pass: bool) -> String {
    let runs: usize = suite.outcomes.iter().map(|outcome| outcome.runs.len()).sum();
    let calls: u64 = suite
        .outcomes
        .iter()
        .flat_map(|outcome| &outcome.runs)
        .flat_map(|run| &run.series.attempts)
        .map(|attempts| u64::from(*attempts))
        .sum();
    let (word, class) = if pass { ("PASS", "good") } else { ("MISSED", "bad") };
    format!(
        "<header><p class=\"eyebrow\">surge simulate<span>{}</span><span>seed {}</span></p><h1>{}</h1>\
         <p class=\"lede\"><b class=\"pill {class}\">{word}</b> {} runs in virtual time, {} attempts.</p></header>\n",
        escape(&suite.name),
        suite.seed,
        escape(headline),
        runs,
        count(calls),
    )
}

fn rows(suite: &SuiteOutcome) -> String {
    let row = |row: &spillway_simulator::Row| {
        let (class, mark) = if row.pass { ("good", "✓") } else { ("bad", "✗") };
        let (sign, bound) = if row.at_least.is_some() { ("≥", row.at_least) } else { ("≤", row.at_most) };
        format!(
            "<tr><td class=\"{class}\">{mark}</td><td>{} {}<small>{}</small></td><td class=\"n\">{sign} {}</td>\
             <td class=\"n {class}\">{}</td><td class=\"n {class}\">{}</td></tr>",
            escape(&row.experiment),
            escape(&row.name),
            escape(&format!("worst of {}: {}", row.runs, row.worst)),
            table::value(row.metric, bound),
            table::value(row.metric, row.observed),
            table::verdict(row),
        )
    };
    let rows: String = suite.outcomes.iter().flat_map(|outcome| &outcome.rows).map(row).collect();
    format!(
        "<table class=\"gates simulation\"><thead><tr><th></th><th>row</th><th>must be</th><th>was</th><th></th></tr>\
         </thead><tbody>{rows}</tbody></table>"
    )
}

fn comparisons(comparisons: &[Comparison]) -> String {
    let row = |found: &Comparison| {
        let (class, mark) = if found.pass { ("good", "✓") } else { ("bad", "✗") };
        format!(
            "<tr><td class=\"{class}\">{mark}</td><td>{}<small>{}</small></td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            found.policy.name(),
            escape(&found.worse_in.join("; ")),
            tally(found.scenarios),
            tally(found.runs),
        )
    };
    let rows: String = comparisons.iter().map(row).collect();
    format!(
        "<table class=\"gates simulation\"><thead><tr><th></th><th>law</th>\
         <th>scenarios: ours better, equal, worse</th><th>runs</th></tr></thead><tbody>{rows}</tbody></table>"
    )
}

fn tally(tally: Tally) -> String {
    format!("{} · {} · {}", tally.better, tally.equal, tally.worse)
}

fn scenario(outcome: &Outcome) -> String {
    let title = format!("{} · {}", outcome.experiment, outcome.scenario);
    let mut figures = String::new();
    for group in groups(outcome) {
        let factors = group.iter().map(|run| run.key.factor);
        let several = factors.clone().any(|factor| Some(factor) != factors.clone().next());
        figures += &if several { over_factors(outcome, &group) } else { over_time(&group) };
    }
    section(&title, &outcome.about, &figures)
}

/// Runs that differ in nothing but their law and their factor.
fn groups(outcome: &Outcome) -> Vec<Vec<&RunOutcome>> {
    let mut groups: Vec<Vec<&RunOutcome>> = Vec::new();
    let kind = |key: &Key| Key { policy: Law::Ours, factor: 1.0, ..key.clone() };
    for run in &outcome.runs {
        match groups.iter_mut().find(|group| kind(&group[0].key) == kind(&run.key)) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    groups
}

/// Goodput of each law at each overload factor.
fn over_factors(outcome: &Outcome, group: &[&RunOutcome]) -> String {
    let mut factors: Vec<_> = group.iter().map(|run| run.key.factor).collect();
    factors.sort_by(f64::total_cmp);
    factors.dedup();
    let capacity = outcome.capacities.iter().find(|known| known.service == group[0].key.service);
    let of = |law: Law| {
        let value = |factor: &f64| {
            let run = group.iter().find(|run| run.key.policy == law && run.key.factor == *factor)?;
            Some(run.figures.goodput_over_peak)
        };
        line(law, factors.iter().map(value).collect())
    };
    let mut lines: Vec<_> = laws(group).into_iter().map(of).collect();
    // What nobody can exceed, because every refusal has its cost.
    lines.extend(capacity.map(|known| Line {
        label: "possible".into(),
        class: "three",
        values: factors.iter().map(|factor| Some(known.ceiling(*factor).min(*factor))).collect(),
    }));
    let ticks = factors.iter().map(|at| Tick { at: *at, label: format!("{at} x"), minor: *at < 1.0 });
    let ticks: Vec<_> = ticks.collect();
    let moments: Vec<_> = factors.iter().map(|factor| format!("{factor} x of capacity")).collect();
    let label = variant(&group[0].key);
    Chart {
        description: format!("Goodput over peak at each overload factor, {label}."),
        times: &factors,
        moments: &moments,
        ticks: &ticks,
        phases: &[],
        events: &[],
        mark: None,
        lines,
        area: None,
        area_shares_scale: false,
        unit: "goodput over its peak, by offered load over capacity",
        format: number,
    }
    .html_with_title(&label)
}

/// Goodput of each law in each second of the run.
fn over_time(group: &[&RunOutcome]) -> String {
    let per_second = (1.0 / Series::STEP_S).round() as usize;
    let seconds = group.iter().map(|run| run.series.ok.len()).max().unwrap_or(0) / per_second;
    let times: Vec<_> = (0..seconds).map(|second| second as f64).collect();
    let moments: Vec<_> = (0..seconds).map(|second| format!("{second} s")).collect();
    let sums = |values: &[u32]| -> Vec<Option<f64>> {
        values
            .chunks_exact(per_second)
            .map(|second| Some(second.iter().map(|n| f64::from(*n)).sum()))
            .collect()
    };
    let of = |law: Law| {
        let run = group.iter().find(|run| run.key.policy == law);
        run.map(|run| line(law, sums(&run.series.ok)))
    };
    let ticks: Vec<_> = (0..seconds)
        .step_by(20)
        .map(|second| Tick { at: second as f64, label: format!("{second} s"), minor: false })
        .collect();
    let label = group[0].key.label();
    let area = Line { label: "offered".into(), class: "shape", values: sums(&group[0].series.offered) };
    let phases: &[Mark] = &[];
    Chart {
        description: format!("Calls answered in time, per second, {label}."),
        times: &times,
        moments: &moments,
        ticks: &ticks,
        phases,
        events: &[],
        mark: None,
        lines: laws(group).into_iter().filter_map(of).collect(),
        area: Some(area),
        area_shares_scale: false,
        unit: "calls answered in time, per second",
        format: number,
    }
    .html_with_title(&label)
}

/// Ours last, so that it is drawn above the others.
fn laws(group: &[&RunOutcome]) -> Vec<Law> {
    let mut laws: Vec<_> = group.iter().map(|run| run.key.policy).collect();
    laws.sort_by_key(|law| (*law == Law::Ours, *law));
    laws.dedup();
    laws
}

fn variant(key: &Key) -> String {
    let label = key.label();
    label.split_once(", ").map_or(label.clone(), |(_, rest)| rest.to_owned())
}

fn line(law: Law, values: Vec<Option<f64>>) -> Line {
    let class = match law {
        Law::Ours => "ours",
        Law::None => "law law-none",
        Law::Static => "law law-static",
        Law::CodelLifo => "law law-codel",
        Law::Gradient2 => "law law-gradient",
        Law::Vegas => "law law-vegas",
        Law::Dagor => "law law-dagor",
        Law::Envoy => "law law-envoy",
        Law::Failsafe => "law law-failsafe",
    };
    Line { label: law.name().into(), class, values }
}

#[cfg(test)]
mod tests {
    use spillway_simulator::{play, shipped};

    use super::*;

    #[test]
    fn the_page_stands_alone_and_draws_every_law() {
        let mut scenario = shipped(Some("e4-step")).unwrap().remove(0).reduced().unwrap();
        scenario.seconds = 12.0;
        let suite = play("<e4>", &[scenario], 1, &mut |_| {});
        let page = render(&suite);
        for outside in ["http:", "https:", "src=", "@import", "url(", "NaN", "<e4>"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("class=\"line ").count(), suite.outcomes[0].runs.len());
    }
}
