//! Durations as Go has them: 64 bits of nanoseconds, negative ones included, written as `1h30m0s`.

use std::fmt;
use std::str::FromStr;
// The only type of time that asks no clock.
use core::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    // The micro sign and the Greek letter.
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    pub const ZERO: GoDuration = GoDuration(0);

    pub const fn from_nanos(nanos: i64) -> Self {
        GoDuration(nanos)
    }

    pub const fn from_secs(seconds: i64) -> Self {
        GoDuration(seconds.saturating_mul(1_000_000_000))
    }

    pub const fn nanos(self) -> i64 {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The same span, if it is not negative.
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

/// Why a text is no duration, in the words of Go's `time.ParseDuration`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("time: invalid duration {}", super::quote(.0))]
    Invalid(String),
    #[error("time: missing unit in duration {}", super::quote(.0))]
    NoUnit(String),
    #[error("time: unknown unit {} in duration {}", super::quote(.unit), super::quote(.text))]
    UnknownUnit { unit: String, text: String },
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError::Invalid(text.to_owned());
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(GoDuration::ZERO);
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut nanos: i128 = 0;
        while !rest.is_empty() {
            let (part, after) = part(rest, text)?;
            nanos = nanos.checked_add(part).filter(|sum| *sum <= 1 << 63).ok_or_else(invalid)?;
            rest = after;
        }
        let signed = if negative { -nanos } else { nanos };
        i64::try_from(signed).map(GoDuration).map_err(|_| invalid())
    }
}

/// One number with its unit, in nanoseconds, and what comes after it. What is less than a nanosecond is cut off.
fn part<'a>(rest: &'a str, text: &str) -> Result<(i128, &'a str), DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, rest) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(invalid());
    }
    let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    if unit.is_empty() {
        return Err(DurationError::NoUnit(text.to_owned()));
    }
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() });
    };
    let scale = i128::from(*scale);
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let whole = whole.checked_mul(scale).ok_or_else(invalid)?;
    Ok((whole.saturating_add(fraction_of(fraction, scale)), rest))
}

/// The digits after a point, of a unit of `scale` nanoseconds.
fn fraction_of(digits: &str, scale: i128) -> i128 {
    // More digits than these are less than a nanosecond of an hour.
    let digits = digits.get(..digits.len().min(18)).unwrap_or_default();
    let Ok(value) = digits.parse::<i128>() else { return 0 };
    let power = u32::try_from(digits.len()).map_or(1, |length| 10i128.pow(length));
    value * scale / power
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        match nanos {
            0 => return f.write_str("0s"),
            1..1_000 => return write!(f, "{sign}{nanos}ns"),
            1_000..1_000_000 => return write!(f, "{sign}{}\u{b5}s", Decimal(nanos, 1_000)),
            1_000_000..1_000_000_000 => return write!(f, "{sign}{}ms", Decimal(nanos, 1_000_000)),
            _ => {}
        }
        let minutes = nanos / 60_000_000_000;
        let seconds = Decimal(nanos % 60_000_000_000, 1_000_000_000);
        match (minutes / 60, minutes % 60) {
            (0, 0) => write!(f, "{sign}{seconds}s"),
            (0, minutes) => write!(f, "{sign}{minutes}m{seconds}s"),
            (hours, minutes) => write!(f, "{sign}{hours}h{minutes}m{seconds}s"),
        }
    }
}

/// A number of units of the given size, without zeros at its end.
struct Decimal(u64, u64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decimal(nanos, unit) = *self;
        write!(f, "{}", nanos / unit)?;
        let rest = nanos % unit;
        if rest == 0 {
            return Ok(());
        }
        let digits = unit.ilog10() as usize;
        let text = format!("{rest:0digits$}");
        write!(f, ".{}", text.trim_end_matches('0'))
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    /// A text such as `30s`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: DurationError| {
            de::Error::custom(format_args!("{error}: expected a number with a unit such as 30s, 250ms, 1m30s or 1h"))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn go_durations() {
        for (text, nanos, written) in [
            ("30s", 30_000_000_000, "30s"),
            ("1m", 60_000_000_000, "1m0s"),
            ("24h", 86_400_000_000_000, "24h0m0s"),
            ("15m", 900_000_000_000, "15m0s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("250ms", 250_000_000, "250ms"),
            ("1ns", 1, "1ns"),
            ("1.5us", 1_500, "1.5\u{b5}s"),
            ("-1s", -1_000_000_000, "-1s"),
            ("+1s", 1_000_000_000, "1s"),
            ("-1.25s", -1_250_000_000, "-1.25s"),
            (".5s", 500_000_000, "500ms"),
            ("1.s", 1_000_000_000, "1s"),
            ("1.00000000000000000000000001s", 1_000_000_000, "1s"),
            ("1h2m3.004s", 3_723_004_000_000, "1h2m3.004s"),
            ("0", 0, "0s"),
            ("-0", 0, "0s"),
            ("9223372036854775807ns", i64::MAX, "2562047h47m16.854775807s"),
            ("-9223372036854775808ns", i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            let duration: GoDuration = text.parse().unwrap();
            assert_eq!((duration.nanos(), duration.to_string().as_str()), (nanos, written), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_said_in_words_of_go() {
        for (text, message) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("5", "time: missing unit in duration \"5\""),
            ("1s2", "time: missing unit in duration \"1s2\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1 s", "time: unknown unit \" s\" in duration \"1 s\""),
            ("x", "time: invalid duration \"x\""),
            (".s", "time: invalid duration \".s\""),
            ("1..2s", "time: invalid duration \"1..2s\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            (
                "9999999999999999999999999999999999999999h",
                "time: invalid duration \"9999999999999999999999999999999999999999h\"",
            ),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(nanos: i64) {
            let duration = GoDuration::from_nanos(nanos);
            prop_assert_eq!(duration.to_string().parse::<GoDuration>(), Ok(duration));
        }

        #[test]
        fn any_text_is_a_duration_or_not(text in "[-+]?[0-9.]{0,25}[a-z\u{b5}]{0,3}.{0,6}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
