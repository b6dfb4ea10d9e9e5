//! The OpenMetrics text format, version 1.0.0, of what the `prometheus` crate gathers.

use std::fmt::Write as _;

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::{Exemplar, Exemplars};

pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) fn encode(families: &[MetricFamily], exemplars: &Exemplars) -> String {
    let mut text = String::with_capacity(64 << 10);
    for family in families {
        family_text(&mut text, family, exemplars);
    }
    text.push_str("# EOF\n");
    text
}

fn family_text(text: &mut String, family: &MetricFamily, exemplars: &Exemplars) {
    let name = family.name();
    // The name of a counter's family is without the ending that its samples must have.
    let (base, kind) = match (family.get_field_type(), name.strip_suffix("_total")) {
        (MetricType::COUNTER, Some(base)) => (base, "counter"),
        (MetricType::GAUGE, _) => (name, "gauge"),
        (MetricType::HISTOGRAM, _) => (name, "histogram"),
        (MetricType::SUMMARY, _) => (name, "summary"),
        (MetricType::COUNTER | MetricType::UNTYPED, _) => (name, "unknown"),
    };
    // Writing to a string cannot fail, here and below.
    writeln!(text, "# TYPE {base} {kind}").unwrap_or_default();
    writeln!(text, "# HELP {base} {}", escaped(family.help())).unwrap_or_default();
    for metric in family.get_metric() {
        match family.get_field_type() {
            MetricType::COUNTER => sample(text, name, metric, None, metric.get_counter().get_value(), None),
            MetricType::GAUGE => sample(text, name, metric, None, metric.get_gauge().get_value(), None),
            MetricType::HISTOGRAM => histogram(text, name, metric, exemplars),
            MetricType::SUMMARY => {
                let summary = metric.get_summary();
                sample(text, &format!("{name}_sum"), metric, None, summary.sample_sum(), None);
                sample(text, &format!("{name}_count"), metric, None, summary.sample_count() as f64, None);
            }
            MetricType::UNTYPED => {}
        }
    }
}

fn histogram(text: &mut String, name: &str, metric: &Metric, exemplars: &Exemplars) {
    let histogram = metric.get_histogram();
    let labels = metric.get_label().iter().map(|label| (label.name(), label.value()));
    let slots = exemplars.get(name, labels);
    let of_bucket = |at| slots.as_ref().and_then(|slots| slots.of_bucket(at));
    let bucket = format!("{name}_bucket");
    let finite = histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
    let mut last = 0;
    for (at, counted) in finite.enumerate() {
        let le = number(counted.upper_bound());
        sample(text, &bucket, metric, Some(&le), counted.cumulative_count() as f64, of_bucket(at));
        last = at + 1;
    }
    let count = histogram.get_sample_count() as f64;
    sample(text, &bucket, metric, Some("+Inf"), count, of_bucket(last));
    sample(text, &format!("{name}_sum"), metric, None, histogram.get_sample_sum(), None);
    sample(text, &format!("{name}_count"), metric, None, count, None);
}

fn sample(
    text: &mut String,
    name: &str,
    metric: &Metric,
    le: Option<&str>,
    value: f64,
    exemplar: Option<Exemplar>,
) {
    text.push_str(name);
    let labels = metric.get_label().iter().map(|label| (label.name(), label.value()));
    let mut open = '{';
    for (label, value) in labels.chain(le.map(|le| ("le", le))) {
        write!(text, "{open}{label}=\"{}\"", escaped(value)).unwrap_or_default();
        open = ',';
    }
    if open == ',' {
        text.push('}');
    }
    write!(text, " {}", number(value)).unwrap_or_default();
    if let Some(Exemplar { trace_id, value }) = exemplar {
        write!(text, " # {{trace_id=\"{}\"}} {}", escaped(&trace_id), number(value)).unwrap_or_default();
    }
    text.push('\n');
}

/// Bounds must look the same in all exposers: `1.0`, and not `1`.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else if value == value.trunc() && value.abs() < 1e15 {
        format!("{value:.1}")
    } else {
        format!("{value}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use prometheus::{Gauge, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

    use super::*;

    const BOUNDS: &[f64] = &[0.01, 1.0];

    #[test]
    fn the_text_is_what_the_standard_says_and_each_bucket_has_its_own_exemplar() {
        let registry = Registry::new();
        let calls = IntCounterVec::new(Opts::new("calls_total", "Calls, by \"kind\"."), &["kind"]).unwrap();
        let length = Gauge::new("length", "How long.\nReally.").unwrap();
        let opts = HistogramOpts::new("took_seconds", "Time.").buckets(BOUNDS.to_vec());
        let took = HistogramVec::new(opts, &["method", "at"]).unwrap();
        registry.register(Box::new(calls.clone())).unwrap();
        registry.register(Box::new(length.clone())).unwrap();
        registry.register(Box::new(took.clone())).unwrap();
        calls.with_label_values(&["a\\b\"c"]).inc_by(3);
        length.set(-1.5);
        took.with_label_values(&["Send", "server"]).observe(0.5);
        took.with_label_values(&["Send", "server"]).observe(7.0);

        let exemplars = Exemplars::default();
        // In another order than the registry's.
        let slots = exemplars.slots("took_seconds", &[("method", "Send"), ("at", "server")], BOUNDS);
        slots.note(0.5, "0af7651916cd43dd8448eb211c80319c".to_owned());
        slots.note(7.0, "f".repeat(32));
        let other = exemplars.slots("took_seconds", &[("method", "Other"), ("at", "server")], BOUNDS);
        other.note(0.5, "not this one".to_owned());

        let expected = format!(
            "# TYPE calls counter\n\
             # HELP calls Calls, by \\\"kind\\\".\n\
             calls_total{{kind=\"a\\\\b\\\"c\"}} 3.0\n\
             # TYPE length gauge\n\
             # HELP length How long.\\nReally.\n\
             length -1.5\n\
             # TYPE took_seconds histogram\n\
             # HELP took_seconds Time.\n\
             took_seconds_bucket{{at=\"server\",method=\"Send\",le=\"0.01\"}} 0.0\n\
             took_seconds_bucket{{at=\"server\",method=\"Send\",le=\"1.0\"}} 1.0 # {{trace_id=\"0af7651916cd43dd8448eb211c80319c\"}} 0.5\n\
             took_seconds_bucket{{at=\"server\",method=\"Send\",le=\"+Inf\"}} 2.0 # {{trace_id=\"{}\"}} 7.0\n\
             took_seconds_sum{{at=\"server\",method=\"Send\"}} 7.5\n\
             took_seconds_count{{at=\"server\",method=\"Send\"}} 2.0\n\
             # EOF\n",
            "f".repeat(32)
        );
        assert_eq!(encode(&registry.gather(), &exemplars), expected);
    }

    #[test]
    fn a_value_on_a_bound_belongs_to_its_bucket() {
        let slots = Exemplars::default().slots("x", &[], BOUNDS);
        slots.note(0.01, "on".to_owned());
        slots.note(0.02, "above".to_owned());
        let of = |at| slots.of_bucket(at).map(|exemplar| exemplar.trace_id);
        assert_eq!(
            [of(0), of(1), of(2), of(3)],
            [Some("on".to_owned()), Some("above".to_owned()), None, None]
        );
    }
}
