//! The words of a rule's text.

use std::borrow::Cow;

/// One word.
pub(super) struct Token<'a> {
    pub(super) text: Cow<'a, str>,
    /// It stood in quotes, so it is a value and never an option.
    pub(super) quoted: bool,
}

/// Splits text as `iptables-restore` does: words between spaces and tabs, and words in double quotes, in which a
/// backslash takes the next character as it is.
#[derive(Clone, Copy)]
pub(super) struct Tokens<'a> {
    rest: &'a str,
}

/// The text is not made of such words: a quote is open, or stands inside a word.
pub(super) struct Malformed;

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Tokens { rest: text }
    }

    /// The next word; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, Malformed> {
        let rest = self.rest.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            self.rest = rest;
            return Ok(None);
        }
        if let Some(inside) = rest.strip_prefix('"') {
            return self.quoted(inside).map(Some);
        }
        let end = rest.bytes().position(|b| b == b' ' || b == b'\t').unwrap_or(rest.len());
        let (word, rest) = rest.split_at_checked(end).ok_or(Malformed)?;
        if word.contains('"') {
            return Err(Malformed);
        }
        self.rest = rest;
        Ok(Some(Token { text: Cow::Borrowed(word), quoted: false }))
    }

    fn quoted(&mut self, inside: &'a str) -> Result<Token<'a>, Malformed> {
        let special = inside.find(['"', '\\']).ok_or(Malformed)?;
        if let Some((text, rest)) = inside.split_at_checked(special)
            && let Some(rest) = rest.strip_prefix('"')
        {
            self.rest = separated(rest)?;
            return Ok(Token { text: Cow::Borrowed(text), quoted: true });
        }
        let mut text = String::with_capacity(inside.len());
        let mut chars = inside.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = separated(inside.get(at + 1..).ok_or(Malformed)?)?;
                    return Ok(Token { text: Cow::Owned(text), quoted: true });
                }
                '\\' => text.push(chars.next().ok_or(Malformed)?.1),
                _ => text.push(c),
            }
        }
        Err(Malformed)
    }
}

/// A closing quote ends the word; iptables always writes a space after it.
fn separated(rest: &str) -> Result<&str, Malformed> {
    if rest.is_empty() || rest.starts_with([' ', '\t']) { Ok(rest) } else { Err(Malformed) }
}
