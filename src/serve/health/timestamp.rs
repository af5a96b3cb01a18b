//! Times as Go's `encoding/json` writes them.

use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;

/// Go's zero time: never.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Go's `time.RFC3339Nano` in UTC: as many digits after the second as the time has. `None` is Go's zero time.
pub fn rfc3339_nano(time: Option<SystemTime>) -> String {
    let time = time.and_then(|time| Timestamp::try_from(time).ok());
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn as_many_digits_as_there_are() {
        for (seconds, nanoseconds, text) in [
            (1_795_262_399, 0, "2026-11-21T11:59:59Z"),
            (1_795_262_399, 500_000_000, "2026-11-21T11:59:59.5Z"),
            (1_795_262_399, 123_456_789, "2026-11-21T11:59:59.123456789Z"),
            (1_795_262_399, 10, "2026-11-21T11:59:59.00000001Z"),
            (1_795_262_399, 120_000, "2026-11-21T11:59:59.00012Z"),
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
        ] {
            assert_eq!(rfc3339_nano(Some(UNIX_EPOCH + Duration::new(seconds, nanoseconds))), text);
        }
        assert_eq!(rfc3339_nano(None), "0001-01-01T00:00:00Z");
    }
}
