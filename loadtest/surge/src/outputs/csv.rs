//! Two tables: `operations.csv` has a row for each operation of the run, `timeseries.csv` one for each operation and second.
//! Times are in milliseconds; an empty cell was not measured.

use std::io::{self, Write};

use csv::Writer;

use crate::summary::Summary;
use crate::timeline::Row;

fn cell(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.3}"))
}

pub(crate) fn operations(summary: &Summary, out: impl Write) -> io::Result<()> {
    let mut table = Writer::from_writer(out);
    let mut head: Vec<String> =
        ["operation", "offered", "ok", "refused", "failed", "waiting"].map(str::to_owned).to_vec();
    for kind in ["response", "service", "lag"] {
        head.extend(["p50", "p90", "p99", "p999", "max"].map(|p| format!("{kind}_{p}_ms")));
    }
    table.write_record(&head)?;
    for (name, figures) in &summary.operations {
        let counts = [figures.offered, figures.ok, figures.refused, figures.failed, figures.waiting];
        let mut record = vec![name.clone()];
        record.extend(counts.map(|count| count.to_string()));
        for kind in [&figures.response_ms, &figures.service_ms, &figures.lag_ms] {
            record.extend([kind.p50, kind.p90, kind.p99, kind.p999, kind.max].map(cell));
        }
        table.write_record(&record)?;
    }
    table.flush()
}

pub(crate) fn timeseries(rows: &[Row], out: impl Write) -> io::Result<()> {
    let mut table = Writer::from_writer(out);
    table.write_record([
        "second",
        "phase",
        "operation",
        "offered",
        "ok",
        "refused",
        "failed",
        "response_p50_ms",
        "response_p99_ms",
        "response_p999_ms",
        "service_p99_ms",
        "lag_p99_ms",
    ])?;
    for row in rows {
        for (name, figures) in &row.operations {
            let counts = [figures.offered, figures.ok, figures.refused, figures.failed];
            let mut record = vec![row.second.to_string(), row.phase.clone(), name.clone()];
            record.extend(counts.map(|count| count.to_string()));
            record.extend(
                [
                    figures.response_p50_ms,
                    figures.response_p99_ms,
                    figures.response_p999_ms,
                    figures.service_p99_ms,
                    figures.lag_p99_ms,
                ]
                .map(cell),
            );
            table.write_record(&record)?;
        }
    }
    table.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn tables_have_a_row_for_everything_and_read_back() {
        let (summary, rows) = example::run();
        let mut out = Vec::new();
        operations(&summary, &mut out).unwrap();
        let mut reader = csv::Reader::from_reader(out.as_slice());
        let columns = reader.headers().unwrap().len();
        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!((columns, records.len()), (21, summary.operations.len()));
        let sends = records.iter().find(|record| &record[0] == "existing_send").unwrap();
        assert_eq!((&sends[1], &sends[6]), ("32000", "2.100"));

        let mut out = Vec::new();
        timeseries(&rows, &mut out).unwrap();
        let cells: usize = rows.iter().map(|row| row.operations.len()).sum();
        assert_eq!(csv::Reader::from_reader(out.as_slice()).records().count(), cells);
    }
}
