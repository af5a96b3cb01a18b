//! Values of flags. An error names the value and what is expected; what a value means is told later, all mistakes at once.

use std::collections::BTreeMap;

use super::{List, Vmodule};
use crate::config::{GoDuration, Quantity, VmoduleItem};
use crate::net::parse_ip;

/// A switch as Go's flags read it.
///
/// # Errors
/// Neither true nor false.
pub fn switch(text: &str) -> Result<bool, String> {
    parse_bool(text).ok_or_else(|| format!("{text:?} is neither true nor false"))
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

pub(super) fn duration(text: &str) -> Result<GoDuration, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no duration: expected a number with a unit such as 30s, 250ms, 1m30s or 1h"))
}

/// A whole number of 32 bits, as Go reads it: also `0x1f`, `0o17`, `0b1`, and `017` in base 8.
pub(super) fn int32(text: &str) -> Result<i32, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let based = |radix| move |digits: &str| i64::from_str_radix(digits, radix).ok();
    let value = if let Some(digits) = lower.strip_prefix("0x") {
        based(16)(digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        based(2)(digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        based(8)(digits)
    } else if let Some(digits) = lower.strip_prefix('0').filter(|digits| !digits.is_empty()) {
        based(8)(digits)
    } else {
        based(10)(&lower)
    };
    let has_digits = lower.chars().all(|c| c.is_ascii_alphanumeric());
    let signed = value.filter(|_| has_digits).map(|value| if negative { -value } else { value });
    signed
        .and_then(|value| i32::try_from(value).ok())
        .ok_or_else(|| format!("{text:?} is no whole number from {} to {}", i32::MIN, i32::MAX))
}

pub(super) fn float32(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| format!("{text:?} is no number"))
}

/// Of 31 bits.
pub(super) fn verbosity(text: &str) -> Result<u32, String> {
    let level = text.parse::<u32>().ok().filter(|level| *level <= i32::MAX.unsigned_abs());
    level.ok_or_else(|| format!("{text:?} is no level: expected a whole number such as 0 or 4"))
}

pub(super) fn quantity(text: &str) -> Result<Quantity, String> {
    text.parse().map_err(|_| format!("{text:?} is no quantity: expected a number such as 512, 5Ki or 1M"))
}

/// An address or nothing.
pub(super) fn ip(text: &str) -> Result<String, String> {
    if text.is_empty() || parse_ip(text).is_some() {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no address: expected one such as 192.168.0.2 or fd00::2"))
    }
}

/// An address, an address with a port, or nothing.
pub(super) fn ip_port(text: &str) -> Result<String, String> {
    let is_ip = text.is_empty() || parse_ip(text).is_some();
    let host_port = || {
        let (host, port) = crate::config::validate::split_host_port(text)?;
        parse_ip(host)?;
        port.parse::<u16>().ok()
    };
    if is_ip || host_port().is_some() {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no address: expected one such as 0.0.0.0, 0.0.0.0:10256 or [::]:10256"))
    }
}

/// The elements of a comma-separated list, without blanks around them; an empty text has none.
pub(super) fn list(text: &str) -> Result<List, String> {
    let elements = text.split(',').map(|element| element.trim().to_owned());
    Ok(List(if text.is_empty() { Vec::new() } else { elements.collect() }))
}

pub(super) fn bool_map(text: &str) -> Result<BTreeMap<String, bool>, String> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| format!("{pair:?} is no pair: expected NAME=true or NAME=false"))?;
            let (name, value) = (name.trim(), value.trim());
            let value = parse_bool(value).ok_or_else(|| format!("{value:?} of {name} is neither true nor false"))?;
            Ok((name.to_owned(), value))
        })
        .collect()
}

pub(super) fn vmodule(text: &str) -> Result<Vmodule, String> {
    let items = text.split(',').filter(|item| !item.is_empty());
    let parsed = items.map(|item| {
        let bad = || format!("{item:?} does not have the pattern=N format");
        let (pattern, level) = item.split_once('=').ok_or_else(bad)?;
        let level = verbosity(level).map_err(|_| bad())?;
        if pattern.is_empty() {
            return Err(bad());
        }
        Ok(VmoduleItem { file_pattern: pattern.to_owned(), verbosity: level })
    });
    parsed.collect::<Result<_, _>>().map(Vmodule)
}
