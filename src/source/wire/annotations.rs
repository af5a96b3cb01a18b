//! Annotations that are read.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::tuning::{
    ANNOTATION_DRAIN_SECONDS, ANNOTATION_ROUTER_FLAGS, ANNOTATION_ROUTER_SCHEDULER, ANNOTATION_SCHEDULER,
    ANNOTATION_SCHEDULER_FLAGS, ANNOTATION_WEIGHTS, TuningTexts,
};
use super::{ANNOTATION_INITIAL_EVENTS_END, ANNOTATION_TRIGGER_TIME};

/// Annotations that are read; all others are skipped.
#[derive(Clone, Debug, Default)]
pub struct Annotations<S = String> {
    pub trigger_time: Option<S>,
    /// Bookmark that ends the initial events of a streaming list.
    pub initial_events_end: Option<S>,
    /// Apart, as hardly any object has one: where there is none, they take a word.
    pub tuning: Option<Box<TuningTexts<S>>>,
}

/// Where the value of an annotation goes.
pub type Place<S> = fn(&mut Annotations<S>) -> &mut Option<S>;

impl<S: Default> Annotations<S> {
    /// `None` if the annotation is not read.
    pub fn place(key: &str) -> Option<Place<S>> {
        let place: Place<S> = match key {
            ANNOTATION_TRIGGER_TIME => |found| &mut found.trigger_time,
            ANNOTATION_INITIAL_EVENTS_END => |found| &mut found.initial_events_end,
            ANNOTATION_SCHEDULER => |found| &mut found.tuning.get_or_insert_default().scheduler,
            ANNOTATION_SCHEDULER_FLAGS => |found| &mut found.tuning.get_or_insert_default().scheduler_flags,
            ANNOTATION_WEIGHTS => |found| &mut found.tuning.get_or_insert_default().weights,
            ANNOTATION_DRAIN_SECONDS => |found| &mut found.tuning.get_or_insert_default().drain_seconds,
            ANNOTATION_ROUTER_SCHEDULER => |found| &mut found.tuning.get_or_insert_default().router_scheduler,
            ANNOTATION_ROUTER_FLAGS => |found| &mut found.tuning.get_or_insert_default().router_flags,
            _ => return None,
        };
        Some(place)
    }
}

/// A map of which most values are skipped before they are read.
impl<'de, S: Deserialize<'de> + Default> Deserialize<'de> for Annotations<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<S>(PhantomData<S>);

        impl<'de, S: Deserialize<'de> + Default> Visitor<'de> for Map<S> {
            type Value = Annotations<S>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations<S>, A::Error> {
                let mut found = Annotations::default();
                while let Some(Key(place)) = map.next_key::<Key<S>>()? {
                    match place {
                        Some(place) => *place(&mut found) = map.next_value()?,
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(found)
            }
        }

        deserializer.deserialize_map(Map(PhantomData))
    }
}

/// A key of the map: where its value goes.
struct Key<S>(Option<Place<S>>);

impl<'de, S: Default> Deserialize<'de> for Key<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name<S>(PhantomData<S>);

        impl<S: Default> Visitor<'_> for Name<S> {
            type Value = Key<S>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an annotation")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Key<S>, E> {
                Ok(Key(Annotations::place(name)))
            }
        }

        deserializer.deserialize_identifier(Name(PhantomData))
    }
}
