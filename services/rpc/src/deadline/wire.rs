//! `grpc-timeout`: at most eight digits and a unit of H, M, S, m, u or n.
//!
//! Grammar: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, "Timeout".

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const EIGHT_DIGITS: u128 = 99_999_999;

#[derive(Debug, thiserror::Error)]
#[error("grpc-timeout is malformed")]
pub(super) struct Malformed;

pub(super) fn read(headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    headers.get(GRPC_TIMEOUT).map(|value| parse(value.as_bytes()).ok_or(Malformed)).transpose()
}

pub(super) fn write(headers: &mut HeaderMap, timeout: Duration) {
    let value = HeaderValue::try_from(format(timeout)).expect("digits and a letter are a header value");
    headers.insert(GRPC_TIMEOUT, value);
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0_u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The finest of u, m and S that fits into eight digits, rounded down: a deadline may shrink on its way, not grow.
fn format(timeout: Duration) -> String {
    if timeout.as_micros() <= EIGHT_DIGITS {
        format!("{}u", timeout.as_micros())
    } else if timeout.as_millis() <= EIGHT_DIGITS {
        format!("{}m", timeout.as_millis())
    } else {
        format!("{}S", u128::from(timeout.as_secs()).min(EIGHT_DIGITS))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_unit_is_understood() {
        for (text, expected) in [
            ("2H", Duration::from_secs(7_200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn malformed_values_are_refused() {
        for text in ["", "S", "5", "123456789S", "-1S", "+1S", "1.5S", "5s", "5 S"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_written_timeout_reads_back_no_longer_and_hardly_shorter(nanos in 0..=99_999_999_000_000_000_u64) {
            let timeout = Duration::from_nanos(nanos);
            let read = parse(format(timeout).as_bytes()).unwrap();
            prop_assert!(read <= timeout);
            // Eight digits lose at most a millionth, or a microsecond where that is more.
            prop_assert!(timeout - read <= (timeout / 10_000).max(Duration::from_micros(1)));
        }
    }
}
