//! Texts in quotes.

use std::fmt::Write;

/// A text as Go's `%q` prints it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                // Writing to a text cannot fail.
                let _ = match code {
                    0..0x80 => write!(out, "\\x{code:02x}"),
                    0x80..0x1_0000 => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push('"');
    out
}

/// Whether a character shows, blanks other than the space not included.
fn is_printable(c: char) -> bool {
    c == ' ' || c == '\'' || (!c.is_whitespace() && c.escape_debug().count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_quotes() {
        for (text, quoted) in [
            ("", r#""""#),
            ("a b'c", r#""a b'c""#),
            ("\"\\\n\t", r#""\"\\\n\t""#),
            ("\u{1}\u{7f}", r#""\x01\x7f""#),
            ("ä\u{a0}\u{200b}", r#""ä\u00a0\u200b""#),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }
}
