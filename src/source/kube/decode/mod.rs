//! From bytes to changes: pages of lists and events of watches, in either encoding.
//!
//! A reader (`json`, or [`protobuf`](super::protobuf)) says what it found; what it means is the same for both. An object
//! that does not fit its type never stops the others: it is a [`Problem`], and what was known about it stays.

mod json;
mod status;

use super::problems::ProblemLog;
use super::protobuf;
use super::step::{Change, Event, Failure, Page};
use super::stream::Encoding;
use crate::net::ObjectName;
use crate::source::wire::{self, Interner, Metadata, Problem, Text};
use crate::state::{Fact, FactKey, Kind};

pub(super) use status::{StatusObject, error_response, malformed};

/// An event as it was read.
pub(super) struct Told<'a> {
    pub event_type: Text<'a>,
    pub object: Found<'a>,
}

/// A page as it was read. An item of which not even the metadata can be read is the reason why.
pub(super) struct ListPage<'a> {
    pub items: Vec<Result<Found<'a>, String>>,
    pub resource_version: Text<'a>,
    pub continue_token: Text<'a>,
}

/// An object as it was read.
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub(super) enum Found<'a> {
    Object {
        kind: Text<'a>,
        object: WireObject<'a>,
    },
    /// Only its metadata can be read.
    Misfit {
        kind: Text<'a>,
        metadata: Metadata<Text<'a>>,
        reason: String,
    },
}

/// An object that fits the type of the kind that is followed.
pub(super) enum WireObject<'a> {
    Service(wire::Service<Text<'a>>),
    EndpointSlice(wire::EndpointSlice<Text<'a>>),
    Node(wire::Node<Text<'a>>),
    ServiceCidr(wire::ServiceCidr<Text<'a>>),
}

/// Decoder of one kind. Keeps the strings that its facts share, and the problems that were already logged.
pub(super) struct Decoder {
    kind: Kind,
    names: Interner,
    pub problems: ProblemLog,
}

impl Decoder {
    pub fn new(kind: Kind, problems: ProblemLog) -> Decoder {
        Decoder { kind, names: Interner::default(), problems }
    }

    /// Forgets strings that no fact uses any more.
    pub fn sweep(&mut self) {
        self.names.sweep();
    }

    /// Reads a page of a list.
    pub fn page(&mut self, encoding: Encoding, body: &[u8]) -> Result<Page, Failure> {
        let page = match encoding {
            Encoding::Json => json::page(self.kind, body)?,
            Encoding::Protobuf => protobuf::page(self.kind, body)?,
        };
        if page.resource_version.is_empty() {
            return Err(Failure::Malformed("the list has no resourceVersion".to_owned()));
        }
        let mut changes = Vec::with_capacity(page.items.len());
        for item in page.items {
            changes.push(match item {
                Ok(found) => self.object(&found),
                Err(reason) => {
                    self.report(&Metadata::default(), "metadata", &reason, "metadata with a name");
                    Change::Unreadable
                }
            });
        }
        let continue_token = (!page.continue_token.is_empty()).then(|| page.continue_token.to_string());
        Ok(Page { changes, continue_token, resource_version: page.resource_version.to_string() })
    }

    /// Reads an event of a watch. An `ERROR` event is the failure that it tells.
    pub fn event(&mut self, encoding: Encoding, bytes: &[u8]) -> Result<Event, Failure> {
        let Told { event_type, object } = match encoding {
            Encoding::Json => json::event(self.kind, bytes)?,
            Encoding::Protobuf => protobuf::event(self.kind, bytes)?,
        };
        let metadata = object.metadata();
        let resource_version = metadata.version().map(str::to_owned);
        let change = match &*event_type {
            "BOOKMARK" => {
                let annotations = metadata.annotations.as_ref();
                let mark = annotations.and_then(|annotations| annotations.initial_events_end.as_deref());
                return Ok(Event::Bookmark { resource_version, ends_initial_events: mark == Some("true") });
            }
            "ADDED" | "MODIFIED" => self.object(&object),
            "DELETED" if self.is_expected(&object) => {
                let key = self.key(metadata);
                self.problems.forget(&key.name);
                Change::Absent(key)
            }
            "DELETED" => Change::Unreadable,
            other => {
                self.report(metadata, "type of event", other, "ADDED, MODIFIED, DELETED, BOOKMARK or ERROR");
                Change::Unreadable
            }
        };
        Ok(Event::Object { change, resource_version })
    }

    fn object(&mut self, found: &Found<'_>) -> Change {
        let metadata = found.metadata();
        if metadata.name.is_empty() {
            self.report(metadata, "metadata.name", "", "a name");
            return Change::Unreadable;
        }
        if !self.is_expected(found) {
            self.report(metadata, "kind", found.kind(), "an object of the kind that was asked for");
            return Change::Unreadable;
        }
        match found {
            Found::Object { object, .. } => {
                let (fact, problems) = object.to_fact(&mut self.names);
                let key = fact.as_ref().map_or_else(|| self.key(metadata), Fact::key);
                self.problems.found(&key.name, problems);
                fact.map_or(Change::Absent(key), Change::Present)
            }
            Found::Misfit { reason, .. } => {
                self.report(metadata, "object", reason, "an object as the API describes it");
                Change::Unreadable
            }
        }
    }

    /// Items of a list carry no kind.
    fn is_expected(&self, found: &Found<'_>) -> bool {
        found.kind().is_empty() || found.kind() == self.kind.as_str()
    }

    fn key(&self, metadata: &Metadata<Text<'_>>) -> FactKey {
        let name = match self.kind {
            Kind::Service | Kind::EndpointSlice => metadata.object_name(),
            Kind::Node | Kind::ServiceCidr => ObjectName::new("", &*metadata.name),
        };
        FactKey { kind: self.kind, name }
    }

    fn report(&mut self, metadata: &Metadata<Text<'_>>, field: &str, value: &str, expected: &'static str) {
        let name = self.key(metadata).name;
        let text = if name.namespace.is_empty() { name.name.to_string() } else { name.to_string() };
        let object = format!("{} {text}", self.kind.as_str());
        let problem = Problem { object, field: field.to_owned(), value: value.to_owned(), expected };
        self.problems.found(&name, vec![problem]);
    }
}

impl<'a> Found<'a> {
    fn kind(&self) -> &str {
        match self {
            Found::Object { kind, .. } | Found::Misfit { kind, .. } => kind,
        }
    }

    fn metadata(&self) -> &Metadata<Text<'a>> {
        match self {
            Found::Object { object: WireObject::Service(object), .. } => &object.metadata,
            Found::Object { object: WireObject::EndpointSlice(object), .. } => &object.metadata,
            Found::Object { object: WireObject::Node(object), .. } => &object.metadata,
            Found::Object { object: WireObject::ServiceCidr(object), .. } => &object.metadata,
            Found::Misfit { metadata, .. } => metadata,
        }
    }
}

impl<'a> From<WireObject<'a>> for Found<'a> {
    /// An object that says its own kind.
    fn from(mut object: WireObject<'a>) -> Self {
        let kind = match &mut object {
            WireObject::Service(object) => object.kind.take(),
            WireObject::EndpointSlice(object) => object.kind.take(),
            WireObject::Node(object) => object.kind.take(),
            WireObject::ServiceCidr(object) => object.kind.take(),
        };
        Found::Object { kind: kind.unwrap_or_default(), object }
    }
}

impl WireObject<'_> {
    /// The fact, unless the object means nothing for the proxy, and what had to be left out of it.
    fn to_fact(&self, names: &mut Interner) -> (Option<Fact>, Vec<Problem>) {
        match self {
            WireObject::Service(object) if !object.is_selected() => (None, Vec::new()),
            WireObject::Service(object) => {
                let (fact, problems) = object.to_fact(names);
                (Some(Fact::Service(fact)), problems)
            }
            WireObject::EndpointSlice(object) if !object.is_selected() => (None, Vec::new()),
            WireObject::EndpointSlice(object) => {
                let (fact, problems) = object.to_fact(names);
                (fact.map(Fact::EndpointSlice), problems)
            }
            WireObject::Node(object) => {
                let (fact, problems) = object.to_fact(names);
                (Some(Fact::Node(fact)), problems)
            }
            WireObject::ServiceCidr(object) => {
                let (fact, problems) = object.to_fact(names);
                (Some(Fact::ServiceCidr(fact)), problems)
            }
        }
    }
}

macro_rules! wire_object {
    ($kind:ident) => {
        impl<'a> From<wire::$kind<Text<'a>>> for WireObject<'a> {
            fn from(object: wire::$kind<Text<'a>>) -> Self {
                WireObject::$kind(object)
            }
        }
    };
}

wire_object!(Service);
wire_object!(EndpointSlice);
wire_object!(Node);
wire_object!(ServiceCidr);

#[cfg(test)]
mod tests;
