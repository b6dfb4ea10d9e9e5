//! Domain values as protobuf's well-known types.

use std::time::Duration;

use spillway_types::Timestamp;

pub(crate) fn wire_timestamp(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.as_micros();
    prost_types::Timestamp {
        seconds: (micros / 1_000_000) as i64,
        nanos: (micros % 1_000_000) as i32 * 1_000,
    }
}

pub(crate) fn wire_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    }
}
