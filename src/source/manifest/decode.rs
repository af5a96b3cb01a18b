//! Trees to the objects of [`wire`](crate::source::wire): a deserializer that says where and what was expected.
//!
//! As in Go's JSON, null means that the field is absent; unlike YAML parsers, a number is no text and a text no number:
//! an API server refuses both, and what it refuses should not work here by accident.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::tree::{Entry, Mistake, Node, Spot, Value};

/// Decodes an object. The message names the field.
pub(super) fn decode<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Mistake> {
    T::deserialize(Cursor(node)).map_err(|error| {
        let path = error.path();
        Mistake::new(
            error.spot.unwrap_or(node.spot),
            if path.is_empty() { error.message } else { format!("{path}: {}", error.message) },
        )
    })
}

/// What does not fit, with the way to it: innermost step first.
#[derive(Debug)]
struct Misfit {
    spot: Option<Spot>,
    steps: Vec<Step>,
    message: String,
}

#[derive(Debug)]
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

    /// `spec.ports[0].port`; keys that hold dots or slashes are put in brackets.
    fn path(&self) -> String {
        let mut path = String::new();
        for step in self.steps.iter().rev() {
            match step {
                Step::Index(index) => path += &format!("[{index}]"),
                Step::Key(key) if key.contains(['.', '/']) => path += &format!("[{key}]"),
                Step::Key(key) if path.is_empty() => path += key,
                Step::Key(key) => path += &format!(".{key}"),
            }
        }
        path
    }
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

struct Cursor<'de>(&'de Node);

impl<'de> Deserializer<'de> for Cursor<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Number(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => Err(Misfit::found(self.0, "true or false")),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.value {
            Value::Null => visitor.visit_i64(0),
            Value::Integer(value) => visitor.visit_i64(*value),
            _ => Err(Misfit::found(self.0, "a whole number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.value {
            Value::Null => visitor.visit_borrowed_str(""),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Bool(_) | Value::Integer(_) | Value::Number(_) => {
                Err(Misfit::found(self.0, "a text (in quotes, if it looks like something else)"))
            }
            Value::List(_) | Value::Map(_) => Err(Misfit::found(self.0, "a text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.value {
            Value::Null => visitor.visit_seq(Items { items: [].iter().enumerate() }),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            _ => Err(Misfit::found(self.0, "a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.value {
            Value::Null => visitor.visit_map(Entries { entries: [].iter(), value: None }),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
            _ => Err(Misfit::found(self.0, "a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_map(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct enum identifier
    }
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        seed.deserialize(Cursor(node)).map(Some).map_err(|error| error.under(Step::Index(index), node))
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    value: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
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
        seed.deserialize(Cursor(node)).map_err(|error| error.under(Step::Key(key.clone()), node))
    }
}
