//! A tree of values as YAML, in the form that Go's libraries write, and as JSON.

use std::borrow::Cow;
use std::fmt::Write;

/// A value. Maps keep their order in JSON; YAML sorts them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f32),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(Cow<'static, str>, Tree)>),
}

impl From<bool> for Tree {
    fn from(value: bool) -> Self {
        Tree::Bool(value)
    }
}

impl From<i32> for Tree {
    fn from(value: i32) -> Self {
        Tree::Integer(value.into())
    }
}

impl From<&str> for Tree {
    fn from(value: &str) -> Self {
        Tree::Text(value.to_owned())
    }
}

impl Tree {
    pub(super) fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.yaml_block(0, &mut out);
        out
    }

    pub(super) fn to_json(&self) -> String {
        let mut out = String::new();
        self.json(&mut out);
        out
    }

    /// Lines of a map or list at this depth; anything else is one line.
    fn yaml_block(&self, indent: usize, out: &mut String) {
        let pad = " ".repeat(indent);
        match self {
            Tree::Map(entries) if !entries.is_empty() => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                for (key, value) in entries {
                    out.push_str(&pad);
                    out.push_str(&yaml_text(key));
                    out.push(':');
                    value.yaml_after_key(indent, out);
                }
            }
            Tree::List(items) if !items.is_empty() => {
                for item in items {
                    let mut lines = String::new();
                    item.yaml_block(indent + 2, &mut lines);
                    out.push_str(&pad);
                    out.push_str("- ");
                    out.push_str(lines.trim_start_matches(' '));
                }
            }
            scalar => {
                out.push_str(&scalar.yaml_scalar());
                out.push('\n');
            }
        }
    }

    fn yaml_after_key(&self, indent: usize, out: &mut String) {
        match self {
            Tree::Map(entries) if !entries.is_empty() => {
                out.push('\n');
                self.yaml_block(indent + 2, out);
            }
            // A list is as deep as the key that it belongs to.
            Tree::List(items) if !items.is_empty() => {
                out.push('\n');
                self.yaml_block(indent, out);
            }
            scalar => {
                out.push(' ');
                scalar.yaml_block(0, out);
            }
        }
    }

    fn yaml_scalar(&self) -> String {
        match self {
            Tree::Text(text) => yaml_text(text).into_owned(),
            Tree::List(_) => "[]".to_owned(),
            Tree::Map(_) => "{}".to_owned(),
            other => other.to_json(),
        }
    }

    fn json(&self, out: &mut String) {
        match self {
            Tree::Null => out.push_str("null"),
            Tree::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            // Writing to a text cannot fail.
            Tree::Integer(value) => drop(write!(out, "{value}")),
            Tree::Float(value) => out.push_str(&float(*value)),
            Tree::Text(text) => out.push_str(&json_text(text)),
            Tree::List(items) => separated(out, '[', ']', items, Tree::json),
            Tree::Map(entries) => separated(out, '{', '}', entries, |(key, value), out| {
                out.push_str(&json_text(key));
                out.push(':');
                value.json(out);
            }),
        }
    }
}

fn separated<T>(out: &mut String, open: char, close: char, items: &[T], write: impl Fn(&T, &mut String)) {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}

/// As Go writes floats of 32 bits.
fn float(value: f32) -> String {
    let magnitude = value.abs();
    // From here on Go's YAML has no integers any more.
    const MOST: f32 = 1.844_674_4e19;
    if magnitude != 0.0 && !(1e-6..MOST).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    value.to_string()
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text as Go's YAML encoder writes it: plain where it can be, double quotes where it would be read as something that is
/// no text, single quotes where it would be read as syntax. Texts of several lines are quoted here.
fn yaml_text(text: &str) -> Cow<'_, str> {
    if text.chars().any(|c| c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}')) {
        return json_text(text).into();
    }
    if is_other_than_text(text) {
        return json_text(text).into();
    }
    if is_syntax(text) { format!("'{}'", text.replace('\'', "''")).into() } else { text.into() }
}

/// Whether YAML 1.1 reads a plain scalar as a null, boolean, number or time.
fn is_other_than_text(text: &str) -> bool {
    const WORDS: [&str; 12] = ["", "~", "null", "y", "n", "yes", "no", "on", "off", "true", "false", ".nan"];
    let lower = text.to_ascii_lowercase();
    WORDS.contains(&lower.as_str()) || is_number(&lower) || is_date(text)
}

fn is_number(lower: &str) -> bool {
    let unsigned = lower.strip_prefix(['-', '+']).unwrap_or(lower);
    let plain = unsigned.replace('_', "");
    let all = |digits: &str, radix| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    let is_based = |prefix: &str, radix| plain.strip_prefix(prefix).is_some_and(|digits| all(digits, radix));
    let starts = plain.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    unsigned == ".inf"
        || is_based("0x", 16)
        || is_based("0b", 2)
        || is_based("0o", 8)
        || (starts && plain.parse::<f64>().is_ok())
        || is_base_60(unsigned)
}

/// `1:20`, which old readers take for 80; with digits and underscores before the first colon.
fn is_base_60(text: &str) -> bool {
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let is_first =
        first.starts_with(|c: char| c.is_ascii_digit()) && first.chars().all(|c| c.is_ascii_digit() || c == '_');
    let mut count = 0;
    let are_sixty = parts.all(|part| {
        count += 1;
        let (whole, fraction) = part.split_once('.').unwrap_or((part, ""));
        let is_whole = matches!(whole.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
        is_whole && fraction.chars().all(|c| c.is_ascii_digit() || c == '_')
    });
    is_first && are_sixty && count > 0
}

/// `2026-11-21`, with or without a time after it.
fn is_date(text: &str) -> bool {
    let date = text.split(['T', 't', ' ']).next().unwrap_or_default();
    let mut parts = date.split('-');
    let mut number = |lengths: std::ops::RangeInclusive<usize>| {
        let part = parts.next().unwrap_or_default();
        lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
    };
    number(4..=4) && number(1..=2) && number(1..=2) && parts.next().is_none()
}

/// Whether a plain scalar would be read as something else than its letters.
fn is_syntax(text: &str) -> bool {
    let first_is_special = text.starts_with(|c| "#,[]{}&*!|>'\"%@`".contains(c));
    let dash_or_so = |c: char| text.strip_prefix(c).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    first_is_special
        || ['-', '?', ':'].into_iter().any(dash_or_so)
        || text.starts_with("---")
        || text.starts_with("...")
        || text.starts_with(' ')
        || text.ends_with([' ', ':'])
        || text.contains(": ")
        || text.contains(" #")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the Go library that kube-proxy uses writes them.
    #[test]
    fn texts_in_yaml() {
        for (text, written) in [
            ("0.0.0.0:10256", "0.0.0.0:10256"),
            ("[::]:10256", "'[::]:10256'"),
            ("::", "'::'"),
            ("2001:db8::1", "2001:db8::1"),
            ("", "\"\""),
            ("0", "\"0\""),
            ("yes", "\"yes\""),
            ("1.5", "\"1.5\""),
            ("1:20", "\"1:20\""),
            ("15m0s", "15m0s"),
            ("-999", "\"-999\""),
            ("2026-11-21", "\"2026-11-21\""),
            ("- a", "'- a'"),
            ("a: b", "'a: b'"),
            ("a#b", "a#b"),
            ("it's", "it's"),
            ("'s", "'''s'"),
            ("1.2.3.0/24,fd00::/64", "1.2.3.0/24,fd00::/64"),
        ] {
            assert_eq!(yaml_text(text), written);
        }
    }

    #[test]
    fn floats_are_written_as_go_does() {
        for (value, text) in
            [(5.0, "5"), (5.5, "5.5"), (0.1, "0.1"), (1e6, "1000000"), (1e20, "1e+20"), (1e-7, "1e-07")]
        {
            assert_eq!(float(value), text);
        }
    }
}
