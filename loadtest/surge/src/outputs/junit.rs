//! Gates as test cases, in the XML that build servers read.

use crate::slo::{GateResult, Verdict};
use crate::summary::Summary;

/// One suite; a case for each gate. A gate of the generator that was missed is an error and not a failure: the service was not tested.
pub(crate) fn render(summary: &Summary) -> String {
    let failed = summary.gates.iter().filter(|gate| !gate.pass && !is_error(gate)).count();
    let errors = summary.gates.iter().filter(|gate| is_error(gate)).count()
        + usize::from(summary.verdict == Verdict::Interrupted);
    let mut cases: String = summary.gates.iter().map(case).collect();
    if summary.verdict == Verdict::Interrupted {
        cases += &format!(
            "    <testcase classname=\"surge\" name=\"the run came to its end\"><error message=\"{}\"/></testcase>\n",
            escape(&summary.headline)
        );
    }
    let tests = summary.gates.len() + usize::from(summary.verdict == Verdict::Interrupted);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"surge {}\" tests=\"{tests}\" failures=\"{failed}\" \
         errors=\"{errors}\" time=\"{:.3}\" timestamp=\"{}\">\n{cases}  </testsuite>\n</testsuites>\n",
        escape(&summary.profile),
        summary.duration_s,
        escape(summary.started_utc.trim_end_matches('Z')),
    )
}

fn is_error(gate: &GateResult) -> bool {
    !gate.pass && gate.kind == crate::slo::Kind::Generator
}

fn case(gate: &GateResult) -> String {
    let head = format!(
        "    <testcase classname=\"surge\" name=\"{}: {}\"",
        escape(&gate.figure),
        escape(&gate.means)
    );
    if gate.pass {
        return head + "/>\n";
    }
    let number = |value: Option<f64>| value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
    let message = format!(
        "observed {}, wanted {} {}",
        number(gate.observed),
        gate.comparison.sign(),
        number(gate.threshold)
    );
    let element = if is_error(gate) { "error" } else { "failure" };
    let advice = gate.advice.as_deref().unwrap_or_default();
    format!("{head}><{element} message=\"{}\">{}</{element}></testcase>\n", escape(&message), escape(advice))
}

fn escape(text: &str) -> String {
    // Control characters are not allowed in XML, however they are written.
    let text: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn missed_gates_are_failures_and_a_late_generator_an_error() {
        let (mut summary, _) = example::run();
        assert!(render(&summary).contains("failures=\"0\" errors=\"0\""));
        let lag = summary.gates.iter().position(|gate| gate.kind == crate::slo::Kind::Generator).unwrap();
        summary.gates[lag].pass = false;
        summary.gates[0].pass = false;
        summary.gates[0].figure = "a < \"b\" & c".to_owned();
        let text = render(&summary);
        assert!(text.contains("failures=\"1\" errors=\"1\""), "{text}");
        assert!(text.contains("name=\"a &lt; &quot;b&quot; &amp; c: "), "{text}");
        assert_eq!(text.matches("<testcase").count(), summary.gates.len());
        summary.verdict = Verdict::Interrupted;
        assert!(render(&summary).contains("the run came to its end"));
    }
}
