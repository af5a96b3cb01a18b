//! JSON text to trees. YAML would read most JSON, but not every escape of a string, and with poorer messages.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Habits;
use super::tree::{Entry, Mistake, Node, Spot, Value, is_bulk};

/// The documents of a text: JSON values one after another.
///
/// # Errors
/// What is no JSON, or, unless the habits are Go's, has a key twice.
pub fn parse(text: &str, habits: Habits) -> Result<Vec<Node>, Mistake> {
    let source = Source { text, habits };
    let mut documents = Vec::new();
    let stream = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    for raw in stream {
        // This first pass checks the syntax of the whole value; nesting beyond 128 levels ends here too.
        let raw = raw.map_err(|error| source.mistake(&error, text))?;
        documents.push(source.node(raw.get())?);
    }
    Ok(documents)
}

/// The whole text, in which parts of it are found again.
struct Source<'a> {
    text: &'a str,
    habits: Habits,
}

impl Source<'_> {
    fn offset(&self, part: &str) -> usize {
        (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize)
    }

    fn spot(&self, part: &str) -> Spot {
        Spot::offset(self.offset(part))
    }

    /// An error of the decoder about `part`. The decoder's column counts bytes and is 0 for the end of a line.
    fn mistake(&self, error: &serde_json::Error, part: &str) -> Mistake {
        let lines = part.split_inclusive('\n').take(error.line().saturating_sub(1));
        let line: usize = lines.map(str::len).sum();
        let offset = self.offset(part) + line + error.column().saturating_sub(1);
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        Mistake::new(Spot::offset(offset), format!("not valid JSON: {message}"))
    }

    fn node(&self, raw: &str) -> Result<Node, Mistake> {
        let mut deserializer = serde_json::Deserializer::from_str(raw);
        let layer = deserializer.deserialize_any(Shallow).map_err(|error| self.mistake(&error, raw))?;
        let value = match layer {
            Layer::Scalar(value) => value,
            Layer::List(items) => {
                Value::List(items.into_iter().map(|item| self.node(item.get())).collect::<Result<_, _>>()?)
            }
            Layer::Map(entries) => Value::Map(self.map(entries)?),
        };
        Ok(Node { spot: self.spot(raw), value })
    }

    fn map(&self, entries: Vec<(Box<str>, &RawValue)>) -> Result<Box<[Entry]>, Mistake> {
        let mut seen = HashSet::with_capacity(entries.len());
        for (key, raw) in &entries {
            if !seen.insert(key) && self.habits == Habits::Strict {
                return Err(Mistake::new(self.spot(raw.get()), format!("the key {key:?} is here twice")));
            }
        }
        let node = |key: &str, raw: &RawValue| match is_bulk(key) {
            true => Ok(Node { spot: self.spot(raw.get()), value: Value::Null }),
            false => self.node(raw.get()),
        };
        entries.into_iter().map(|(key, raw)| Ok((key.clone(), node(&key, raw)?))).collect()
    }
}

/// A value whose parts are still text.
enum Layer<'a> {
    Scalar(Value),
    List(Vec<&'a RawValue>),
    Map(Vec<(Box<str>, &'a RawValue)>),
}

struct Shallow;

impl<'de> Visitor<'de> for Shallow {
    type Value = Layer<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Layer<'de>, E> {
        Ok(Layer::Scalar(Value::Null))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Layer<'de>, E> {
        Ok(Layer::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Layer<'de>, E> {
        Ok(Layer::Scalar(Value::Integer(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Layer<'de>, E> {
        Ok(Layer::Scalar(i64::try_from(value).map_or(Value::Number(value as f64), Value::Integer)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Layer<'de>, E> {
        Ok(Layer::Scalar(Value::Number(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Layer<'de>, E> {
        Ok(Layer::Scalar(Value::Text(value.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Layer<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Layer::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Layer<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Box<str>>()? {
            entries.push((key, access.next_value()?));
        }
        Ok(Layer::Map(entries))
    }
}
