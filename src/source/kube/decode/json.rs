//! The JSON of lists and watches.
//!
//! Nearly every event fits, and is read in one pass. One that does not is read again in parts, to tell what of it can be
//! used: its type, its metadata, or the error that it carries.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::status::{StatusObject, malformed};
use super::{Found, ListPage, Told, WireObject};
use crate::source::kube::step::Failure;
use crate::source::wire::{EndpointSlice, Metadata, Node, Service, ServiceCidr, Text};
use crate::state::Kind;

/// A page of a list; `T` is an object, or what may become one.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct WirePage<'a, T> {
    #[serde(borrow)]
    metadata: PageMetadata<'a>,
    items: Option<Vec<T>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PageMetadata<'a> {
    #[serde(borrow)]
    resource_version: Option<Text<'a>>,
    #[serde(borrow, rename = "continue")]
    continue_token: Option<Text<'a>>,
}

/// An event of a watch.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct WireEvent<'a, T> {
    #[serde(rename = "type", borrow)]
    event_type: Text<'a>,
    object: T,
}

/// What every object has.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    metadata: Metadata<Text<'a>>,
}

/// Reads a line of a watch.
pub(super) fn event(kind: Kind, line: &[u8]) -> Result<Told<'_>, Failure> {
    let whole = match kind {
        Kind::Service => whole_event::<Service<Text<'_>>>(line),
        Kind::EndpointSlice => whole_event::<EndpointSlice<Text<'_>>>(line),
        Kind::Node => whole_event::<Node<Text<'_>>>(line),
        Kind::ServiceCidr => whole_event::<ServiceCidr<Text<'_>>>(line),
    };
    whole.map_or_else(|| event_in_parts(kind, line), Ok)
}

/// `None`: it does not fit, or is an error.
fn whole_event<'a, T: Deserialize<'a> + Into<WireObject<'a>>>(line: &'a [u8]) -> Option<Told<'a>> {
    let event: WireEvent<'a, T> = serde_json::from_slice(line).ok()?;
    let object = Found::from(event.object.into());
    (&*event.event_type != "ERROR").then_some(Told { event_type: event.event_type, object })
}

fn event_in_parts(kind: Kind, line: &[u8]) -> Result<Told<'_>, Failure> {
    let event: WireEvent<'_, &RawValue> =
        serde_json::from_slice(line).map_err(|error| malformed("event", &error, line))?;
    let text = event.object.get();
    if &*event.event_type == "ERROR" {
        let status: StatusObject =
            serde_json::from_str(text).map_err(|error| malformed("ERROR event", &error, text.as_bytes()))?;
        return Err(status.failure());
    }
    let object = object_in_parts(kind, text).map_err(|error| malformed("object", &error, line))?;
    Ok(Told { event_type: event.event_type, object })
}

/// Reads a page of a list.
pub(super) fn page(kind: Kind, body: &[u8]) -> Result<ListPage<'_>, Failure> {
    let whole = match kind {
        Kind::Service => whole_page::<Service<Text<'_>>>(body),
        Kind::EndpointSlice => whole_page::<EndpointSlice<Text<'_>>>(body),
        Kind::Node => whole_page::<Node<Text<'_>>>(body),
        Kind::ServiceCidr => whole_page::<ServiceCidr<Text<'_>>>(body),
    };
    whole.map_or_else(|| page_in_parts(kind, body), Ok)
}

/// `None`: something in it does not fit.
fn whole_page<'a, T: Deserialize<'a> + Into<WireObject<'a>>>(body: &'a [u8]) -> Option<ListPage<'a>> {
    let page: WirePage<'a, T> = serde_json::from_slice(body).ok()?;
    let items = page.items.unwrap_or_default().into_iter().map(|object| Ok(Found::from(object.into())));
    Some(page.metadata.with(items.collect()))
}

fn page_in_parts(kind: Kind, body: &[u8]) -> Result<ListPage<'_>, Failure> {
    let page: WirePage<'_, &RawValue> =
        serde_json::from_slice(body).map_err(|error| malformed("list", &error, body))?;
    let items = page.items.unwrap_or_default().into_iter();
    let items = items.map(|item| object_in_parts(kind, item.get()).map_err(|error| error.to_string()));
    Ok(page.metadata.with(items.collect()))
}

impl<'a> PageMetadata<'a> {
    fn with(self, items: Vec<Result<Found<'a>, String>>) -> ListPage<'a> {
        ListPage {
            items,
            resource_version: self.resource_version.unwrap_or_default(),
            continue_token: self.continue_token.unwrap_or_default(),
        }
    }
}

/// One object. An error is an object of which not even the metadata can be read.
fn object_in_parts(kind: Kind, text: &str) -> Result<Found<'_>, serde_json::Error> {
    let head: Head<'_> = serde_json::from_str(text)?;
    let whole = match kind {
        Kind::Service => serde_json::from_str(text).map(WireObject::Service),
        Kind::EndpointSlice => serde_json::from_str(text).map(WireObject::EndpointSlice),
        Kind::Node => serde_json::from_str(text).map(WireObject::Node),
        Kind::ServiceCidr => serde_json::from_str(text).map(WireObject::ServiceCidr),
    };
    Ok(match whole {
        Ok(object) => Found::from(object),
        Err(error) => {
            Found::Misfit { kind: head.kind.unwrap_or_default(), metadata: head.metadata, reason: error.to_string() }
        }
    })
}
