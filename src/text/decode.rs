//! Trees to objects: a deserializer that says where and what was expected, and which fields no object has.
//!
//! As in Go's JSON, null means that the field is absent; unlike YAML parsers, a number is no text and a text no number:
//! an API server refuses both, and what it refuses should not work here by accident.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::tree::{Entry, Mistake, Node, Spot, Value};

/// Decodes an object; fields that it does not have are left out.
///
/// # Errors
/// The first value that does not fit; the message names the field.
pub fn decode<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Mistake> {
    T::deserialize(Cursor { node, unknown: None }).map_err(|error| mistake(node, error))
}

/// Decodes an object, and tells of each field that it does not have.
///
/// # Errors
/// Those of [`decode`].
pub fn decode_noting<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<(T, Vec<Mistake>), Mistake> {
    let unknown = Unknown::default();
    let decoded = T::deserialize(Cursor { node, unknown: Some(&unknown) }).map_err(|error| mistake(node, error))?;
    Ok((decoded, unknown.found.into_inner()))
}

fn mistake(node: &Node, error: Misfit) -> Mistake {
    let path = path(error.steps.iter().rev());
    Mistake::new(
        error.spot.unwrap_or(node.spot),
        if path.is_empty() { error.message } else { format!("{path}: {}", error.message) },
    )
}

/// Fields that no object has.
#[derive(Default)]
struct Unknown {
    /// Where the decoder is now: outermost step first.
    path: RefCell<Vec<Step>>,
    found: RefCell<Vec<Mistake>>,
}

impl Unknown {
    /// Looks through the keys of a map that has no other than `fields`.
    fn look(&self, entries: &[Entry], fields: &[&str]) {
        for (key, node) in entries.iter().filter(|(key, _)| !fields.contains(&&**key)) {
            let mut steps = self.path.borrow().clone();
            steps.push(Step::Key(key.clone()));
            let message = format!("unknown field {:?}", path(steps.iter()));
            self.found.borrow_mut().push(Mistake::new(node.spot, message));
        }
    }
}

/// What does not fit, with the way to it: innermost step first.
#[derive(Debug)]
struct Misfit {
    spot: Option<Spot>,
    steps: Vec<Step>,
    message: String,
}

#[derive(Clone, Debug)]
enum Step {
    Key(Box<str>),
    Index(usize),
}

impl Misfit {
    fn found(node: &Node, expected: &str) -> Self {
        Misfit {
            spot: Some(node.spot),
            steps: Vec::new(),
            message: format!("expected {expected}, found {}", node.value),
        }
    }

    fn under(mut self, step: Step, node: &Node) -> Self {
        self.spot = self.spot.or(Some(node.spot));
        self.steps.push(step);
        self
    }
}

/// `spec.ports[0].port`; keys that hold dots or slashes are put in brackets.
fn path<'a>(steps: impl Iterator<Item = &'a Step>) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Index(index) => path += &format!("[{index}]"),
            Step::Key(key) if key.contains(['.', '/']) => path += &format!("[{key}]"),
            Step::Key(key) if path.is_empty() => path += key,
            Step::Key(key) => path += &format!(".{key}"),
        }
    }
    path
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Misfit { spot: None, steps: Vec::new(), message: message.to_string() }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("expected a field {field:?}"))
    }
}

#[derive(Clone, Copy)]
struct Cursor<'de, 'u> {
    node: &'de Node,
    /// Where to tell of fields that no object has.
    unknown: Option<&'u Unknown>,
}

impl<'de> Cursor<'de, '_> {
    /// A whole number within limits, also one that is written as `1.0`.
    fn whole(self, least: i64, most: i64) -> Result<i64, Misfit> {
        let number = match self.node.value {
            Value::Null => Some(0),
            Value::Integer(value) => Some(value),
            Value::Number(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(value as i64),
            _ => None,
        };
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| Misfit::found(self.node, &format!("a whole number from {least} to {most}")))
    }

    fn below(self, node: &'de Node) -> Self {
        Cursor { node, ..self }
    }

    /// Does something one step below.
    fn step<T>(self, step: Step, work: impl FnOnce() -> Result<T, Misfit>) -> Result<T, Misfit> {
        let Some(unknown) = self.unknown else { return work() };
        unknown.path.borrow_mut().push(step);
        let result = work();
        unknown.path.borrow_mut().pop();
        result
    }
}

impl<'de> Deserializer<'de> for Cursor<'de, '_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Number(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate(), within: self }),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None, within: self }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => Err(Misfit::found(self.node, "true or false")),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Null => visitor.visit_i64(0),
            Value::Integer(value) => visitor.visit_i64(*value),
            _ => Err(Misfit::found(self.node, "a whole number")),
        }
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_i64(self.whole(i32::MIN.into(), i32::MAX.into())?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_i64(self.whole(0, u32::MAX.into())?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let number = match self.node.value {
            Value::Null => Some(0.0),
            Value::Integer(value) => Some(value as f32),
            Value::Number(value) => Some(value as f32),
            _ => None,
        };
        let finite = number.filter(|number| number.is_finite());
        visitor.visit_f32(finite.ok_or_else(|| Misfit::found(self.node, "a number"))?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Null => visitor.visit_borrowed_str(""),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Bool(_) | Value::Integer(_) | Value::Number(_) => {
                Err(Misfit::found(self.node, "a text (in quotes, if it looks like something else)"))
            }
            Value::List(_) | Value::Map(_) => Err(Misfit::found(self.node, "a text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Null => visitor.visit_seq(Items { items: [].iter().enumerate(), within: self }),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate(), within: self }),
            _ => Err(Misfit::found(self.node, "a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Null => visitor.visit_map(Entries { entries: [].iter(), value: None, within: self }),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None, within: self }),
            _ => Err(Misfit::found(self.node, "a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        if let (Some(unknown), Value::Map(entries)) = (self.unknown, &self.node.value) {
            unknown.look(entries, fields);
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u64 u128 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct enum identifier
    }
}

struct Items<'de, 'u> {
    within: Cursor<'de, 'u>,
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let below = self.within.below(node);
        let item = below.step(Step::Index(index), || seed.deserialize(below));
        item.map(Some).map_err(|error| error.under(Step::Index(index), node))
    }
}

struct Entries<'de, 'u> {
    within: Cursor<'de, 'u>,
    entries: std::slice::Iter<'de, Entry>,
    value: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let entry = self.entries.find(|(_, node)| node.value != Value::Null);
        self.value = entry;
        let Some((key, _)) = entry else { return Ok(None) };
        seed.deserialize((&**key).into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some((key, node)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let below = self.within.below(node);
        let value = below.step(Step::Key(key.clone()), || seed.deserialize(below));
        value.map_err(|error| error.under(Step::Key(key.clone()), node))
    }
}
