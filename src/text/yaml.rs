//! YAML text to trees.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Options, Spanned};

use super::Habits;
use super::tree::{Mistake, Node, Place, Spot, Value, is_bulk};

/// The documents of a text, with or without the place of each value; with places takes half as long again. Empty
/// documents are left out.
///
/// # Errors
/// What is no YAML, or, unless the habits are Go's, has a key twice.
pub fn parse(text: &str, places: bool, habits: Habits) -> Result<Vec<Node>, Mistake> {
    if places { documents::<true>(text, habits) } else { documents::<false>(text, habits) }
}

fn documents<const PLACES: bool>(text: &str, habits: Habits) -> Result<Vec<Node>, Mistake> {
    let documents: Vec<Document<PLACES>> =
        serde_saphyr::from_multiple_with_options(text, options(text.len(), habits)).map_err(|error| mistake(&error))?;
    Ok(documents.into_iter().map(|Document(node)| node).collect())
}

/// Limits that grow with the text and no faster: what aliases add stays bounded, a long list is fine.
fn options(length: usize, habits: Habits) -> Options {
    const SPARE: usize = 100_000;
    let budget = serde_saphyr::budget! {
        max_events: length.saturating_mul(2).saturating_add(SPARE),
        max_nodes: length.saturating_mul(2).saturating_add(SPARE),
        max_documents: length.saturating_add(1),
        max_total_scalar_bytes: length.saturating_add(16 << 20),
        max_anchors: SPARE,
        max_aliases: SPARE,
        max_merge_keys: SPARE,
        max_recorded_anchor_events: length.saturating_add(SPARE),
        enforce_alias_anchor_ratio: false,
    };
    serde_saphyr::options! {
        budget: budget,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: length.saturating_add(SPARE) },
        // With the last one winning, a map is told every one.
        duplicate_keys: match habits {
            Habits::Strict => DuplicateKeyPolicy::Error,
            Habits::Go => DuplicateKeyPolicy::LastWins,
        },
        strict_booleans: habits == Habits::Strict,
        legacy_octal_numbers: habits == Habits::Go,
        // A float that nobody reads may be anything.
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        emit_comments: false,
        with_snippet: false,
    }
}

fn mistake(error: &serde_saphyr::Error) -> Mistake {
    let error = error.without_snippet();
    let spot = error.location().map_or(Spot::Offset(0), spot);
    let cause = match error {
        serde_saphyr::Error::AliasError { error, .. } => error,
        other => other,
    };
    let message = match cause {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key {key:?} is here twice"),
        serde_saphyr::Error::DuplicateMappingKey { key: None, .. } => "a key is here twice".to_owned(),
        serde_saphyr::Error::Budget { .. }
        | serde_saphyr::Error::AliasReplayLimitExceeded { .. }
        | serde_saphyr::Error::AliasReplayStackDepthExceeded { .. } => {
            "nested too deeply, or too much is repeated through anchors and aliases: write it out".to_owned()
        }
        other => {
            let text = other.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            let text = text.lines().next().unwrap_or_default();
            let hint =
                if text.starts_with("mapping values are not allowed") { " (is the indentation right?)" } else { "" };
            format!("not valid YAML: {text}{hint}")
        }
    };
    Mistake::new(spot, message)
}

fn spot(location: serde_saphyr::Location) -> Spot {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    Spot::At(Place { line: number(location.line()), column: number(location.column()) })
}

/// A node that reads itself, with its place or without.
struct Document<const PLACES: bool>(Node);

impl<'de, const PLACES: bool> Deserialize<'de> for Document<PLACES> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if PLACES {
            let spanned = Spanned::<Plain<PLACES>>::deserialize(deserializer)?;
            Ok(Document(Node { spot: spot(spanned.referenced), value: spanned.value.0 }))
        } else {
            Ok(Document(Node { spot: Spot::Unknown, value: Plain::<PLACES>::deserialize(deserializer)?.0 }))
        }
    }
}

/// A value without its own place; `PLACES` is about the values in it.
struct Plain<const PLACES: bool>(Value);

impl<'de, const PLACES: bool> Deserialize<'de> for Plain<PLACES> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor::<PLACES>).map(Plain)
    }
}

struct PlainVisitor<const PLACES: bool>;

impl<'de, const PLACES: bool> Visitor<'de> for PlainVisitor<PLACES> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Number(value as f64), Value::Integer))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Document(item)) = access.next_element::<Document<PLACES>>()? {
            items.push(item);
        }
        Ok(Value::List(items.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Box<str>>()? {
            let node = if is_bulk(&key) {
                access.next_value::<IgnoredAny>()?;
                Node { spot: Spot::Unknown, value: Value::Null }
            } else {
                access.next_value::<Document<PLACES>>()?.0
            };
            entries.push((key, node));
        }
        Ok(Value::Map(entries.into()))
    }
}
