//! The API's protobuf, as far as a proxy reads it.
//!
//! `wire` reads fields, `objects` says which of them are which, `frames` cuts a watch into events; here is what is
//! around an object. Everything that is sent on its own begins with four bytes and is then an `Unknown`
//! (`k8s.io/apimachinery` `pkg/runtime` `generated.proto`): the type, and the object as bytes. A list is one such
//! message; each event of a watch is a bare `WatchEvent` (`pkg/apis/meta/v1`) with such a message inside.
//!
//! Malformed input of any kind is an error, never a panic. What a value means is decided in
//! [`wire`](crate::source::wire), for this encoding and for JSON.

mod frames;
mod objects;
mod wire;

pub(super) use frames::Frames;

use self::wire::{Field, Fill, Misread, read};
use super::decode::{Found, ListPage, StatusObject, Told, WireObject, malformed};
use super::step::Failure;
use crate::source::wire::{Metadata, Text};
use crate::state::Kind;

/// What every message begins with.
const MAGIC: &[u8] = b"k8s\0";

/// `Unknown` of runtime: what an object is, and its bytes.
#[derive(Default)]
struct Envelope<'a> {
    kind: Text<'a>,
    raw: &'a [u8],
    content_encoding: Text<'a>,
    content_type: Text<'a>,
}

/// `WatchEvent` of meta/v1.
#[derive(Default)]
struct WatchEvent<'a> {
    event_type: Text<'a>,
    object: &'a [u8],
}

/// `ListMeta` of meta/v1, and the items that are not read yet.
#[derive(Default)]
struct List<'a> {
    resource_version: Text<'a>,
    continue_token: Text<'a>,
    items: Vec<&'a [u8]>,
}

/// Whether a body is in this encoding.
pub(super) fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// Reads an event of a watch.
pub(super) fn event(kind: Kind, frame: &[u8]) -> Result<Told<'_>, Failure> {
    let mut event = WatchEvent::default();
    read(frame, &mut event, watch_event).map_err(|misread| malformed("event", &misread, frame))?;
    let envelope = envelope(event.object).map_err(|misread| malformed("object", &misread, frame))?;
    if &*event.event_type == "ERROR" {
        let status = status_of(&envelope).map_err(|misread| malformed("ERROR event", &misread, frame))?;
        return Err(status.failure());
    }
    let object = object(kind, envelope.kind, envelope.raw).map_err(|misread| malformed("object", &misread, frame))?;
    Ok(Told { event_type: event.event_type, object })
}

/// Reads a page of a list.
pub(super) fn page(kind: Kind, body: &[u8]) -> Result<ListPage<'_>, Failure> {
    let broken = |misread: Misread| malformed("list", &misread, body);
    let envelope = envelope(body).map_err(broken)?;
    if envelope.kind.strip_suffix("List") != Some(kind.as_str()) {
        let reason = format!("kind {:?} where a list of kind {} was asked for", &*envelope.kind, kind.as_str());
        return Err(malformed("list", &reason, body));
    }
    let mut list = List::default();
    read(envelope.raw, &mut list, list_of_items).map_err(broken)?;
    // Items carry no kind; it is that of the list.
    let items =
        list.items.iter().map(|item| object(kind, Text::default(), item).map_err(|misread| misread.to_string()));
    Ok(ListPage {
        items: items.collect(),
        resource_version: list.resource_version,
        continue_token: list.continue_token,
    })
}

/// Reads the `Status` of an answer with an error code.
pub(super) fn status(body: &[u8]) -> Option<StatusObject> {
    envelope(body).and_then(|envelope| status_of(&envelope)).ok()
}

fn status_of(envelope: &Envelope<'_>) -> Result<StatusObject, Misread> {
    let mut status = StatusObject::default();
    read(envelope.raw, &mut status, status_fields)?;
    Ok(status)
}

/// One object. An error is an object of which not even the metadata can be read.
fn object<'a>(expected: Kind, kind: Text<'a>, raw: &'a [u8]) -> Result<Found<'a>, Misread> {
    fn typed<'a, T: Default>(raw: &'a [u8], fill: Fill<'a, T>) -> Result<T, Misread> {
        let mut object = T::default();
        read(raw, &mut object, fill).map(|()| object)
    }
    // The fields of another kind have other meanings.
    let is_expected = kind.is_empty() || &*kind == expected.as_str();
    let read = match expected {
        _ if !is_expected => Err(Misread::new("it is of another kind")),
        Kind::Service => typed(raw, objects::service).map(WireObject::Service),
        Kind::EndpointSlice => typed(raw, objects::slice).map(WireObject::EndpointSlice),
        Kind::Node => typed(raw, objects::node).map(WireObject::Node),
        Kind::ServiceCidr => typed(raw, objects::service_cidr).map(WireObject::ServiceCidr),
    };
    Ok(match read {
        Ok(object) => Found::Object { kind, object },
        Err(misread) => {
            let mut metadata = Metadata::default();
            self::read(raw, &mut metadata, objects::only_metadata)?;
            Found::Misfit { kind, metadata, reason: misread.to_string() }
        }
    })
}

fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, Misread> {
    let body = bytes.strip_prefix(MAGIC).ok_or(Misread::new("it does not begin as the API's protobuf does"))?;
    let mut envelope = Envelope::default();
    read(body, &mut envelope, envelope_fields)?;
    if !envelope.content_encoding.is_empty() {
        return Err(Misread::new("the object is compressed, which was not asked for"));
    }
    if !envelope.content_type.is_empty() {
        return Err(Misread::new("the object is in another encoding than protobuf"));
    }
    Ok(envelope)
}

fn envelope_fields<'a>(envelope: &mut Envelope<'a>, field: &Field<'a>) -> Result<(), Misread> {
    match field.number {
        1 => field.message("typeMeta", &mut envelope.kind, |kind, field| {
            if field.number == 2 {
                *kind = field.text("kind")?;
            }
            Ok(())
        })?,
        2 => envelope.raw = field.bytes("raw")?,
        3 => envelope.content_encoding = field.text("contentEncoding")?,
        4 => envelope.content_type = field.text("contentType")?,
        _ => {}
    }
    Ok(())
}

fn watch_event<'a>(event: &mut WatchEvent<'a>, field: &Field<'a>) -> Result<(), Misread> {
    match field.number {
        1 => event.event_type = field.text("type")?,
        // `RawExtension` of runtime.
        2 => field.message("object", &mut event.object, |object, field| {
            if field.number == 1 {
                *object = field.bytes("raw")?;
            }
            Ok(())
        })?,
        _ => {}
    }
    Ok(())
}

/// The lists of all kinds are alike.
fn list_of_items<'a>(list: &mut List<'a>, field: &Field<'a>) -> Result<(), Misread> {
    match field.number {
        1 => field.message("metadata", list, |list, field| {
            match field.number {
                2 => list.resource_version = field.text("resourceVersion")?,
                3 => list.continue_token = field.text("continue")?,
                _ => {}
            }
            Ok(())
        })?,
        2 => list.items.push(field.bytes("items")?),
        _ => {}
    }
    Ok(())
}

/// `Status` of meta/v1.
fn status_fields(status: &mut StatusObject, field: &Field<'_>) -> Result<(), Misread> {
    match field.number {
        3 => status.message = Some(field.text("message")?.to_string()),
        4 => status.reason = Some(field.text("reason")?.to_string()),
        5 => field.message("details", status.details.get_or_insert_default(), |details, field| {
            if field.number == 5 {
                details.retry_after_seconds = u64::try_from(field.int32("retryAfterSeconds")?).ok();
            }
            Ok(())
        })?,
        6 => status.code = u16::try_from(field.int32("code")?).unwrap_or_default(),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
