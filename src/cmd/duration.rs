//! Durations of weir's own flags: as Go writes them, and not negative.

use std::time::Duration;

use crate::config::GoDuration;

/// Reads a duration that is not negative. The error names the value and the form.
pub fn parse(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<GoDuration>().ok().and_then(GoDuration::to_std);
    duration.ok_or_else(|| {
        format!("{text:?} is no duration: expected a number with a unit such as 30s, 250ms, 1m30s or 1h")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        for (text, millis) in
            [("30s", 30_000), ("1m0s", 60_000), ("250ms", 250), ("1.5h", 5_400_000), ("0", 0), ("1h2m3s", 3_723_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "30", "-1s", "1d", "1s2", "9999999h", "1..2s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
