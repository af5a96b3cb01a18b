//! Numbers as Go prints them: kube-proxy's, and so the texts that people's rules and alerts match on.

use std::fmt;

/// Decimal exponents from here on are written, and those below [`LOWEST`].
const FROM: i32 = 6;
const LOWEST: i32 = -4;

/// A number in the shortest form that reads back the same, as Go's `strconv.FormatFloat(f, 'g', -1, 64)` and the text
/// format have it: `0.001`, `999999`, `1e+06`, `1.5e-07`, `+Inf`, `NaN`.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0;
        if number.is_nan() {
            return f.write_str("NaN");
        }
        if number.is_infinite() {
            return f.write_str(if number > 0.0 { "+Inf" } else { "-Inf" });
        }
        if number == 0.0 {
            return f.write_str("0");
        }
        // The shortest digits that read back the same are the same in Rust: `1.5e-7`.
        let scientific = format!("{number:e}");
        let Some((digits, exponent)) = scientific.split_once('e') else { return f.write_str(&scientific) };
        match exponent.parse() {
            Ok(LOWEST..FROM) | Err(_) => write!(f, "{number}"),
            Ok(exponent) => {
                let sign = if exponent < 0 { '-' } else { '+' };
                write!(f, "{digits}e{sign}{:02}", exponent.unsigned_abs())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_go_prints_them() {
        for (number, text) in [
            (1.0, "1"),
            (0.0, "0"),
            (-0.0, "0"),
            (-1.0, "-1"),
            (0.001, "0.001"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (16.384, "16.384"),
            (20_000.0, "20000"),
            (123_456.789, "123456.789"),
            (999_999.0, "999999"),
            (999_999.5, "999999.5"),
            (1e6, "1e+06"),
            (1_048_576.0, "1.048576e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (9_999_999.0, "9.999999e+06"),
            (1e20, "1e+20"),
            (1e21, "1e+21"),
            (123_456_789_012_345_678_901_234.0, "1.2345678901234569e+23"),
            (1_795_264_974.45, "1.79526497445e+09"),
            (-83.5, "-83.5"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (18_446_744_073_709_551_615.0, "1.8446744073709552e+19"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(Number(number).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bits: u64) {
            let number = f64::from_bits(bits);
            let read: f64 = Number(number).to_string().parse().unwrap();
            prop_assert!(read == number || (read.is_nan() && number.is_nan()));
        }
    }
}
