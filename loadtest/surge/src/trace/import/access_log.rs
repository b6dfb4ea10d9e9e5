//! Access logs of nginx, in its `combined` format, which Apache has as well:
//! `1.2.3.4 - - [15/Jan/2021:15:00:07 +0000] "POST /v1/accounts HTTP/2.0" 200 12 "-" "-"`.

use std::io::{BufRead, BufReader};
use std::path::Path;

use super::Counts;
use crate::load::Op;
use crate::trace::TraceError;
use crate::trace::moment::days_from_civil;
use crate::trace::open::open;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Each request is one arrival: of the operation of the first prefix that its path begins with, else of `op`. Without an
/// `op`, other requests are passed over.
///
/// # Errors
///
/// When a line has no time where the format has it.
pub fn nginx(
    path: &Path,
    prefixes: &[(String, Op)],
    op: Option<Op>,
    bucket_s: f64,
) -> Result<Counts, TraceError> {
    let mut counts = Counts::new(bucket_s);
    let mut lines = BufReader::new(open(path)?);
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line);
        if read.map_err(|source| TraceError::Read { path: path.to_owned(), source })? == 0 {
            break;
        }
        number += 1;
        // Paths hold whatever clients send.
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let at_s = time(text).ok_or_else(|| TraceError::Line {
            path: path.to_owned(),
            line: number,
            why: "there is no time such as [15/Jan/2021:15:00:07 +0000] in it".to_owned(),
        })?;
        let requested = target(text).unwrap_or_default();
        let by_prefix = prefixes.iter().find(|(prefix, _)| requested.starts_with(prefix)).map(|(_, op)| *op);
        match by_prefix.or(op) {
            Some(op) => counts.add(at_s, op),
            None => counts.passed_over += 1,
        }
    }
    if counts.counted == 0 {
        return Err(TraceError::Empty { path: path.to_owned() });
    }
    Ok(counts)
}

fn time(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once('[')?;
    let (stamp, _) = rest.split_once(']')?;
    let (moment, zone) = stamp.split_once(' ')?;
    let mut parts = moment.split(['/', ':']);
    let day: i64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let mut number = || parts.next()?.parse::<i64>().ok();
    let (year, hour, minute, second) = (number()?, number()?, number()?, number()?);
    let (sign, zone) = match zone.split_at_checked(1)? {
        ("+", zone) => (1, zone),
        ("-", zone) => (-1, zone),
        _ => return None,
    };
    let zone: i64 = zone.parse().ok()?;
    let offset_s = sign * (zone / 100 * 3_600 + zone % 100 * 60);
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_s;
    Some(seconds as f64)
}

/// Of `"GET /path HTTP/1.1"`, the path.
fn target(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once('"')?;
    rest.split_whitespace().nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time_and_its_path() {
        let line =
            r#"1.2.3.4 - - [15/Jan/2021:16:00:07 +0100] "POST /v1/accounts?x=1 HTTP/2.0" 200 12 "-" "-""#;
        assert_eq!(time(line), Some(1_610_722_807.0));
        assert_eq!(target(line), Some("/v1/accounts?x=1"));
        assert_eq!(time("1.2.3.4 - - [yesterday] \"GET / HTTP/1.1\""), None);
    }
}
