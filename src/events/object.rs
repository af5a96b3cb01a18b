//! Events as API objects.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event as ApiEvent, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::{Event, Regarding};

/// Who reports: tools select by it.
const CONTROLLER: &str = "kube-proxy";

/// What the API server takes at most, in bytes.
const NAME_MAX: usize = 253;
const INSTANCE_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

/// So many and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Series {
    pub count: i32,
    pub last: Timestamp,
}

/// The namespace of an event: that of the object that it is about, and for a Node `default`.
pub(super) fn namespace(event: &Event) -> &str {
    match &event.regarding {
        Regarding::Node(_) => "default",
        Regarding::Service(name) => &name.namespace,
    }
}

/// The name of an event: the object's, and the time.
pub(super) fn name(event: &Event, at: Timestamp) -> String {
    let time = format!(".{:x}", at.as_nanosecond());
    let object = match &event.regarding {
        Regarding::Node(name) => name,
        Regarding::Service(name) => &name.name,
    };
    let object = shortened(object, NAME_MAX - time.len());
    format!("{}{time}", object.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
}

/// The whole object, to be created.
pub(super) fn whole(event: &Event, name: &str, node_name: &str, at: Timestamp, series: Option<Series>) -> ApiEvent {
    let (kind, regarding_name, regarding_namespace) = match &event.regarding {
        Regarding::Node(name) => ("Node", name, None),
        Regarding::Service(name) => ("Service", &name.name, Some(name.namespace.to_string())),
    };
    ApiEvent {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace(event).to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(at)),
        series: series.map(|Series { count, last }| EventSeries { count, last_observed_time: MicroTime(last) }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(shortened(&format!("{CONTROLLER}-{node_name}"), INSTANCE_MAX).to_owned()),
        action: Some(event.action.to_owned()),
        reason: Some(event.reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(kind.to_owned()),
            name: Some(regarding_name.to_string()),
            namespace: regarding_namespace,
            ..ObjectReference::default()
        }),
        note: Some(shortened(&event.note, NOTE_MAX).to_owned()),
        type_: Some(event.event_type.as_str().to_owned()),
        ..ApiEvent::default()
    }
}

/// What changes of an event that has happened again.
pub(super) fn patch(series: Series) -> serde_json::Value {
    json!({"series": {"count": series.count, "lastObservedTime": MicroTime(series.last)}})
}

/// The beginning of a text, of so many bytes at most.
fn shortened(text: &str, most: usize) -> &str {
    let most = most.min(text.len());
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    text.get(..end).unwrap_or_default()
}
