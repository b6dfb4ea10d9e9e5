use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use prometheus::proto::{MetricFamily, MetricType};

use super::{EXAMPLE, PARTS, Part};

const HEAD: &str = "\
# Metrics

What a process exposes at `/metrics` of its admin port, by what it has of roles and parts. Made by `cargo xtask metrics --write` from what the code registers; do not edit.

Units are Prometheus' base units: `_seconds`, `_bytes`, `_ratio` (0 to 1, and more where it says so). Money is in millionths of the currency's unit (`_micros`), seats are calls that are served at once. Counters
end in `_total` and begin at 0 with the process. A histogram `x` has `x_bucket{le}`, `x_sum` and `x_count`; those marked with * have exemplars, traces that fell into a bucket, for a scraper that accepts
OpenMetrics.

No label has a value that somebody outside can choose: they come from closed lists in the code, or from the settings. Those are `provider` (names of providers in the settings; empty where a code had
none), `hop` and `group` (roles), `server` (ports of the process), `connection` (uses of NATS), `step` (steps of a drain), `version` and `roles`. `service` and `method` are those of the descriptors, or `other`; `code` is a code of gRPC. No
metric names a user, a number, an address or a device.
";

/// Labels whose values are not listed, because there are many or the settings say them.
const NOT_LISTED: [&str; 3] = ["service", "method", "code"];

/// Histograms that have exemplars.
const WITH_EXEMPLARS: [&str; 3] = [
    "spillway_rpc_server_duration_seconds",
    "spillway_rpc_client_duration_seconds",
    "spillway_gateway_delivery_seconds",
];

/// The page, in Markdown.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    for part in &PARTS {
        section(&mut page, part);
    }
    page
}

fn section(page: &mut String, part: &Part) {
    let Part { title, about, .. } = part;
    // Writing to a string cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(page, "{text}").unwrap_or_default();
    line(format_args!("\n## {title}\n"));
    if !about.is_empty() {
        line(format_args!("{about}\n"));
    }
    line(format_args!("| metric | type | labels | meaning |\n|---|---|---|---|"));
    for family in part.families() {
        let name = family.name();
        let star = if WITH_EXEMPLARS.contains(&name) { "*" } else { "" };
        let (kind, labels, help) = (kind(&family), labels(&family), family.help().replace('|', "\\|"));
        line(format_args!("| `{name}` | {kind}{star} | {labels} | {help} |"));
    }
}

fn kind(family: &MetricFamily) -> &'static str {
    match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    }
}

fn labels(family: &MetricFamily) -> String {
    let mut labels = BTreeMap::<&str, BTreeSet<&str>>::new();
    for pair in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
        labels.entry(pair.name()).or_default().insert(pair.value());
    }
    let label = |(name, values): (&str, BTreeSet<&str>)| {
        if NOT_LISTED.contains(&name) || values.contains(EXAMPLE) || name == "version" {
            return format!("`{name}`");
        }
        let values: Vec<_> = values.into_iter().map(|value| format!("`{value}`")).collect();
        format!("`{name}`: {}", values.join(", "))
    };
    labels.into_iter().map(label).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<MetricFamily> {
        PARTS.iter().flat_map(Part::families).collect()
    }

    /// What Prometheus' own linter would say, and what this project adds.
    #[test]
    fn names_follow_conventions() {
        let mut wrong = Vec::new();
        for family in families() {
            let (name, kind) = (family.name().to_owned(), family.get_field_type());
            let is_ours = name.starts_with("spillway_") || name.starts_with("process_");
            let is_total = name.ends_with("_total");
            if !is_ours || is_total != (kind == MetricType::COUNTER) {
                wrong.push(format!("{name}: {kind:?}"));
            }
            let foreign = ["_milliseconds", "_ms", "_us", "_minutes", "_hours", "_kib", "_mb", "_percent"];
            if foreign.iter().any(|unit| name.trim_end_matches("_total").ends_with(unit)) {
                wrong.push(format!("{name}: not a base unit"));
            }
            if family.help().len() < 10 {
                wrong.push(format!("{name}: what is it?"));
            }
        }
        assert_eq!(wrong, [""; 0]);
    }

    /// Labels with many values are what fills a Prometheus.
    #[test]
    fn no_family_has_more_series_than_its_lists_multiply_to() {
        for family in families() {
            let series = family.get_metric().len();
            let of_calls = family.name().starts_with("spillway_rpc_");
            assert!(series <= if of_calls { 100 } else { 180 }, "{}: {series} series", family.name());
        }
    }

    #[test]
    fn a_metric_is_in_one_part_or_means_the_same_in_both() {
        let mut seen = BTreeMap::<String, (MetricType, usize)>::new();
        for part in &PARTS {
            for family in part.families() {
                let labels = family.get_metric().first().map_or(0, |metric| metric.get_label().len());
                let here = (family.get_field_type(), labels);
                let before = seen.insert(family.name().to_owned(), here);
                assert!(before.is_none_or(|before| before == here), "{}", family.name());
            }
        }
        assert!(seen.len() > 100, "{}", seen.len());
    }

    #[test]
    fn the_page_has_what_people_look_for() {
        let page = page();
        for text in [
            "| `spillway_gateway_sends_total` | counter | `outcome`: `failed`, ",
            "| `spillway_gateway_delivery_seconds` | histogram* | `route`: `backlog`, `found`, `held`, `hint` |",
            "| `spillway_provider_breaker_state` | gauge | `provider`; `transport`: `sms`, `voice` |",
            "| `spillway_cql_requests_total` | counter |  |",
        ] {
            assert!(page.contains(text), "{text}\n{page}");
        }
        assert!(!page.contains(EXAMPLE));
    }
}
