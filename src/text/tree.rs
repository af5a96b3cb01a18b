//! A parsed document: values, each with its place in the text.

use std::fmt;

/// Line and column, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is known about the place of a value while parsing; a [`Place`] is made of it when an error needs one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// Not recorded: recording costs time, and most files have no mistakes.
    Unknown,
    /// Offset in bytes from the beginning of the text; of what is longer than 4 GiB, the end of that.
    Offset(u32),
    At(Place),
}

impl Spot {
    pub fn offset(offset: usize) -> Self {
        Spot::Offset(u32::try_from(offset).unwrap_or(u32::MAX))
    }

    pub fn place(self, text: &str) -> Option<Place> {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        match self {
            Spot::Unknown => None,
            Spot::At(place) => Some(place),
            Spot::Offset(offset) => {
                let mut offset = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
                while !text.is_char_boundary(offset) {
                    offset -= 1;
                }
                let before = text.get(..offset).unwrap_or_default();
                let line = before.rsplit('\n').next().unwrap_or_default();
                Some(Place {
                    line: number(before.bytes().filter(|byte| *byte == b'\n').count() + 1),
                    column: number(line.chars().count() + 1),
                })
            }
        }
    }
}

/// A value and where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub spot: Spot,
    pub value: Value,
}

/// A key of a map with its value.
pub type Entry = (Box<str>, Node);

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number that is no `i64`: fractions and very large numbers.
    Number(f64),
    Text(Box<str>),
    List(Box<[Node]>),
    /// In the order of the text; keys are unique, unless [`Habits::Go`](super::Habits::Go) was asked for and
    /// [`Node::drop_duplicates`] was not.
    Map(Box<[Entry]>),
}

impl Node {
    /// The value of a key that is there and not null.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(name, node)| &**name == key && node.value != Value::Null).map(|(_, node)| node)
    }

    /// Leaves of each key the last one, and tells which others there were.
    pub fn drop_duplicates(&mut self) -> Vec<Mistake> {
        let mut found = Vec::new();
        self.drop_duplicates_into("", &mut found);
        found
    }

    fn drop_duplicates_into(&mut self, path: &str, found: &mut Vec<Mistake>) {
        match &mut self.value {
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    item.drop_duplicates_into(&format!("{path}[{index}]"), found);
                }
            }
            Value::Map(entries) => {
                let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
                for (key, mut node) in std::mem::take(entries) {
                    let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
                    node.drop_duplicates_into(&path, found);
                    match kept.iter_mut().find(|(earlier, _)| *earlier == key) {
                        Some(earlier) => {
                            found.push(Mistake::new(node.spot, format!("duplicate field {path:?}")));
                            earlier.1 = node;
                        }
                        None => kept.push((key, node)),
                    }
                }
                *entries = kept.into();
            }
            _ => {}
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    /// As an error message names what it found.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("nothing"),
            Value::Bool(value) => write!(f, "the boolean {value}"),
            Value::Integer(value) => write!(f, "the number {value}"),
            Value::Number(value) => write!(f, "the number {value}"),
            Value::Text(text) => write!(f, "the text {:?}", Shortened(text)),
            Value::List(_) => f.write_str("a list"),
            Value::Map(_) => f.write_str("a map"),
        }
    }
}

/// The beginning of a text that may be long.
struct Shortened<'a>(&'a str);

impl fmt::Debug for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LIMIT: usize = 60;
        match self.0.char_indices().nth(LIMIT) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}", format!("{}...", self.0.get(..end).unwrap_or_default())),
        }
    }
}

/// Why a text is no tree, or a tree no object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub spot: Spot,
    pub message: String,
}

impl Mistake {
    pub fn new(spot: Spot, message: impl Into<String>) -> Self {
        Mistake { spot, message: message.into() }
    }
}

/// Fields that are large and never read, in the objects that are read or in others: their values are nothing in a tree.
pub(super) fn is_bulk(key: &str) -> bool {
    matches!(
        key,
        "managedFields"
            | "kubectl.kubernetes.io/last-applied-configuration"
            | "ownerReferences"
            | "targetRef"
            | "data"
            | "binaryData"
            | "template"
    )
}
