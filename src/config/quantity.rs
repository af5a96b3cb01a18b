//! Quantities of bytes as Kubernetes writes them: `512`, `5Ki`, `1.5M`, `1e3`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// An amount with the form that it was written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantity {
    /// In billionths: the least that Kubernetes keeps.
    nanos: i128,
    form: Form,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Decimal,
    Binary,
    Exponent,
}

const NANO: i128 = 1_000_000_000;

/// Suffixes of powers of 1000 from 10^-9.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Suffixes of powers of 1024 from 1024^1.
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// What is no quantity, in the words of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct QuantityError;

impl Quantity {
    pub const fn is_zero(&self) -> bool {
        self.nanos == 0
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (scale, form) = scale(suffix)?;
        let nanos = scaled(number, scale)?;
        Ok(Quantity { nanos: if negative { -nanos } else { nanos }, form })
    }
}

/// What one unit of a suffix is in billionths.
fn scale(suffix: &str) -> Result<(i128, Form), QuantityError> {
    if let Some(power) = DECIMAL.iter().position(|known| *known == suffix) {
        return Ok((1000i128.pow(u32::try_from(power).map_err(|_| QuantityError)?), Form::Decimal));
    }
    if let Some(power) = BINARY.iter().position(|known| *known == suffix) {
        let power = u32::try_from(power + 1).map_err(|_| QuantityError)?;
        return Ok((1024i128.pow(power) * NANO, Form::Binary));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError)?;
    let exponent: i32 = exponent.parse().map_err(|_| QuantityError)?;
    let power = u32::try_from(exponent.saturating_add(9)).map_err(|_| QuantityError)?;
    let scale = if power <= 27 { 10i128.pow(power) } else { return Err(QuantityError) };
    Ok((scale, Form::Exponent))
}

/// A decimal number of units; what is less than a billionth counts as one.
fn scaled(number: &str, scale: i128) -> Result<i128, QuantityError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let too_long = whole.len() + fraction.len() > 18;
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || too_long {
        return Err(QuantityError);
    }
    let digits: i128 = format!("{whole}{fraction}").parse().map_err(|_| QuantityError)?;
    let parts = 10i128.pow(u32::try_from(fraction.len()).map_err(|_| QuantityError)?);
    let product = digits.checked_mul(scale).ok_or(QuantityError)?;
    Ok(product / parts + i128::from(product % parts != 0))
}

impl fmt::Display for Quantity {
    /// With the largest suffix that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_small = self.nanos.abs() < 1024 * NANO;
        match self.form {
            _ if self.nanos == 0 => f.write_str("0"),
            Form::Binary if !is_small && self.nanos % NANO == 0 => {
                let (mut amount, mut suffix) = (self.nanos / NANO, "");
                for larger in BINARY {
                    if amount % 1024 != 0 {
                        break;
                    }
                    (amount, suffix) = (amount / 1024, larger);
                }
                write!(f, "{amount}{suffix}")
            }
            Form::Binary | Form::Decimal => {
                let (amount, power) = self.thousands();
                write!(f, "{amount}{}", DECIMAL.get(power).copied().unwrap_or_default())
            }
            Form::Exponent => match self.thousands() {
                (amount, 3) => write!(f, "{amount}"),
                (amount, power) => write!(f, "{amount}e{}", i64::try_from(power).unwrap_or_default() * 3 - 9),
            },
        }
    }
}

impl Quantity {
    /// A whole number, and the power of 1000 that it counts, from 10^-9.
    fn thousands(&self) -> (i128, usize) {
        let (mut amount, mut power) = (self.nanos, 0);
        while amount % 1000 == 0 && power + 1 < DECIMAL.len() {
            (amount, power) = (amount / 1000, power + 1);
        }
        (amount, power)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 512, 5Ki or 1M")
            }

            fn visit_i64<E: de::Error>(self, amount: i64) -> Result<Quantity, E> {
                Ok(Quantity { nanos: i128::from(amount) * NANO, form: Form::Decimal })
            }

            fn visit_f64<E: de::Error>(self, amount: f64) -> Result<Quantity, E> {
                amount.to_string().parse().map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_kubernetes_does() {
        for (text, written) in [
            ("0", "0"),
            ("512", "512"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1024Ki", "1Mi"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("0.5Gi", "512Mi"),
            ("1.5M", "1500k"),
            ("1e3", "1e3"),
            ("12E", "12E"),
            ("100m", "100m"),
            ("-5Mi", "-5Mi"),
            ("+3", "3"),
        ] {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!(quantity.to_string(), written, "{text}");
            assert_eq!(written.parse::<Quantity>().unwrap().nanos, quantity.nanos, "{text}");
        }
        for text in ["", "x", "1x", "1..5", ".", "-", "1KiB", "1e", "1e99", "99999999999999999999"] {
            assert_eq!(text.parse::<Quantity>(), Err(QuantityError), "{text}");
        }
    }
}
