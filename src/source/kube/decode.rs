//! From bytes to changes: pages of lists and events of watches, one object in wire form at a time.
//!
//! An object that does not fit its type never stops the others: it is a [`Problem`], and what was known about it stays.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::problems::ProblemLog;
use super::resource::Resource;
use super::step::{Change, Event, Failure, Page};
use crate::net::ObjectName;
use crate::source::wire::{self, Interner, Problem};
use crate::state::{Fact, FactKey, Kind};

/// Decoder of one kind. Keeps the strings that its facts share, and the problems that were already logged.
pub(super) struct Decoder {
    resource: Resource,
    names: Interner,
    pub problems: ProblemLog,
}

#[derive(Deserialize)]
struct WirePage<'a> {
    metadata: PageMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    continue_token: Option<String>,
}

#[derive(Deserialize)]
struct WireEvent<'a> {
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What every object has.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    metadata: wire::Metadata,
}

/// The API's `Status` object.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireStatus {
    code: u16,
    reason: Option<String>,
    message: Option<String>,
    details: Option<StatusDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusDetails {
    retry_after_seconds: Option<u64>,
}

impl Decoder {
    pub fn new(resource: Resource, problems: ProblemLog) -> Decoder {
        Decoder { resource, names: Interner::default(), problems }
    }

    /// Forgets strings that no fact uses any more.
    pub fn sweep(&mut self) {
        self.names.sweep();
    }

    /// Reads a page of a list.
    pub fn page(&mut self, body: &[u8]) -> Result<Page, Failure> {
        let page: WirePage<'_> = serde_json::from_slice(body).map_err(|error| malformed("list", &error, body))?;
        let resource_version = page.metadata.resource_version.filter(|version| !version.is_empty());
        let Some(resource_version) = resource_version else {
            return Err(Failure::Malformed("the list has no resourceVersion".to_owned()));
        };
        let mut changes = Vec::new();
        for item in page.items.unwrap_or_default() {
            changes.push(match serde_json::from_str::<Head<'_>>(item.get()) {
                Ok(head) => self.object(item.get(), &head),
                Err(error) => {
                    let nameless = Head { kind: None, metadata: wire::Metadata::default() };
                    self.report(&nameless, "metadata", &error.to_string(), "metadata with a name");
                    Change::Unreadable
                }
            });
        }
        let continue_token = page.metadata.continue_token.filter(|token| !token.is_empty());
        Ok(Page { changes, continue_token, resource_version })
    }

    /// Reads a line of a watch. An `ERROR` event is the failure that it tells.
    pub fn event(&mut self, line: &[u8]) -> Result<Event, Failure> {
        let event: WireEvent<'_> = serde_json::from_slice(line).map_err(|error| malformed("event", &error, line))?;
        let text = event.object.get();
        if event.event_type == "ERROR" {
            return Err(error_event(text));
        }
        let head: Head<'_> = serde_json::from_str(text).map_err(|error| malformed("object", &error, line))?;
        let resource_version = head.metadata.resource_version.clone().filter(|version| !version.is_empty());
        let change = match &*event.event_type {
            "BOOKMARK" => {
                let annotations = head.metadata.annotations.as_ref();
                let mark = annotations.and_then(|annotations| annotations.initial_events_end.as_deref());
                return Ok(Event::Bookmark { resource_version, ends_initial_events: mark == Some("true") });
            }
            "ADDED" | "MODIFIED" => self.object(text, &head),
            "DELETED" if self.is_expected(&head) => {
                let key = self.key(&head);
                self.problems.forget(&key.name);
                Change::Absent(key)
            }
            "DELETED" => Change::Unreadable,
            other => {
                self.report(&head, "type of event", other, "ADDED, MODIFIED, DELETED, BOOKMARK or ERROR");
                Change::Unreadable
            }
        };
        Ok(Event::Object { change, resource_version })
    }

    fn object(&mut self, text: &str, head: &Head<'_>) -> Change {
        if head.metadata.name.is_empty() {
            self.report(head, "metadata.name", "", "a name");
            return Change::Unreadable;
        }
        if !self.is_expected(head) {
            let kind = head.kind.as_deref().unwrap_or_default();
            self.report(head, "kind", kind, "an object of the kind that was asked for");
            return Change::Unreadable;
        }
        let key = self.key(head);
        match self.decode(text) {
            Ok((fact, problems)) => {
                self.problems.found(&key.name, problems);
                fact.map_or(Change::Absent(key), Change::Present)
            }
            Err(error) => {
                self.report(head, "object", &error.to_string(), "an object as the API describes it");
                Change::Unreadable
            }
        }
    }

    fn decode(&mut self, text: &str) -> Result<(Option<Fact>, Vec<Problem>), serde_json::Error> {
        let names = &mut self.names;
        Ok(match self.resource.kind {
            Kind::Service => {
                let object: wire::Service = serde_json::from_str(text)?;
                if !object.is_selected() {
                    return Ok((None, Vec::new()));
                }
                let (fact, problems) = object.to_fact(names);
                (Some(Fact::Service(fact)), problems)
            }
            Kind::EndpointSlice => {
                let object: wire::EndpointSlice = serde_json::from_str(text)?;
                if !object.is_selected() {
                    return Ok((None, Vec::new()));
                }
                let (fact, problems) = object.to_fact(names);
                (fact.map(Fact::EndpointSlice), problems)
            }
            Kind::Node => {
                let (fact, problems) = serde_json::from_str::<wire::Node>(text)?.to_fact(names);
                (Some(Fact::Node(fact)), problems)
            }
            Kind::ServiceCidr => {
                let (fact, problems) = serde_json::from_str::<wire::ServiceCidr>(text)?.to_fact(names);
                (Some(Fact::ServiceCidr(fact)), problems)
            }
        })
    }

    /// Items of a list carry no kind.
    fn is_expected(&self, head: &Head<'_>) -> bool {
        head.kind.as_deref().is_none_or(|kind| kind.is_empty() || kind == self.resource.api_kind)
    }

    fn key(&self, head: &Head<'_>) -> FactKey {
        let kind = self.resource.kind;
        let namespace = match kind {
            Kind::Service | Kind::EndpointSlice => head.metadata.namespace.as_deref().unwrap_or("default"),
            Kind::Node | Kind::ServiceCidr => "",
        };
        FactKey { kind, name: ObjectName::new(namespace, head.metadata.name.as_str()) }
    }

    fn report(&mut self, head: &Head<'_>, field: &str, value: &str, expected: &'static str) {
        let name = self.key(head).name;
        let text = if name.namespace.is_empty() { name.name.to_string() } else { name.to_string() };
        let object = format!("{} {text}", self.resource.api_kind);
        let problem = Problem { object, field: field.to_owned(), value: value.to_owned(), expected };
        self.problems.found(&name, vec![problem]);
    }
}

/// What a response with an error status means. The body is a `Status`, or plain text from something in between.
pub(super) fn error_response(code: u16, body: &[u8], retry_after: Option<Duration>) -> Failure {
    let status: WireStatus = serde_json::from_slice(body).unwrap_or_default();
    let plain = || excerpt(body);
    let message = status.message.as_deref().map_or_else(plain, |message| excerpt(message.as_bytes()));
    let retry_after = retry_after.or_else(|| status.retry_after());
    classify(code, message, retry_after)
}

fn error_event(text: &str) -> Failure {
    let status: WireStatus = match serde_json::from_str(text) {
        Ok(status) => status,
        Err(error) => return malformed("ERROR event", &error, text.as_bytes()),
    };
    let message = excerpt(status.message.as_deref().unwrap_or_default().as_bytes());
    let expired = matches!(status.reason.as_deref(), Some("Expired" | "Gone"));
    classify(if expired { 410 } else { status.code }, message, status.retry_after())
}

impl WireStatus {
    fn retry_after(&self) -> Option<Duration> {
        self.details.as_ref()?.retry_after_seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }
}

fn classify(code: u16, message: String, retry_after: Option<Duration>) -> Failure {
    match code {
        410 => Failure::Gone(message),
        404 => Failure::Missing(message),
        401 | 403 => Failure::Denied { code, message },
        // 502 and 504 come from a load balancer whose API server is away.
        429 | 502 | 503 | 504 => Failure::Busy { code, message, retry_after },
        400..=499 => Failure::Refused { code, message },
        _ => Failure::Server { code, message },
    }
}

fn malformed(what: &str, error: &serde_json::Error, text: &[u8]) -> Failure {
    Failure::Malformed(format!("{what}: {error}: {}", excerpt(text)))
}

/// The start of a text from the network, safe for one line of a log.
fn excerpt(text: &[u8]) -> String {
    /// Bytes that are kept.
    const KEPT: usize = 200;
    let text = text.trim_ascii();
    let start = String::from_utf8_lossy(text.get(..KEPT).unwrap_or(text));
    start.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
