//! Durations as Go writes them: `30s`, `1m0s`, `1.5h`, `250ms` (contract 1.3, *dur*).

use std::time::Duration;

/// Reads a duration that is not negative. The error names the value and the form.
pub fn parse(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration: expected a number with a unit such as 30s, 250ms, 1m30s or 1h");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let value: f64 = rest.get(..number).and_then(|n| n.parse().ok()).ok_or_else(bad)?;
        rest = rest.get(number..).ok_or_else(bad)?;
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        nanos += value * unit_nanos(rest.get(..unit).unwrap_or_default()).ok_or_else(bad)?;
        rest = rest.get(unit..).unwrap_or_default();
    }
    // Go's durations are 64 bits of nanoseconds: 292 years.
    if text.is_empty() || nanos > i64::MAX as f64 { Err(bad()) } else { Ok(Duration::from_nanos(nanos as u64)) }
}

fn unit_nanos(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
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
