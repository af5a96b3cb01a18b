//! Answers in either encoding.

use std::sync::Arc;

use serde_json::{Value, json};

use super::protobuf;
use super::store::{API_VERSIONS, KINDS, Object};

/// What an answer is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    pub(super) fn content_type(self, is_watch: bool) -> &'static str {
        match (self, is_watch) {
            (Encoding::Json, _) => "application/json",
            (Encoding::Protobuf, true) => "application/vnd.kubernetes.protobuf;stream=watch",
            (Encoding::Protobuf, false) => "application/vnd.kubernetes.protobuf",
        }
    }

    /// An object that is sent on its own.
    pub(super) fn object(self, object: &Value) -> Vec<u8> {
        match self {
            Encoding::Json => object.to_string().into_bytes(),
            Encoding::Protobuf => protobuf::object(object),
        }
    }

    /// An event of a watch.
    pub(super) fn event(self, event_type: &str, object: &Value) -> Vec<u8> {
        match self {
            Encoding::Json => line(event_type, &object.to_string()),
            Encoding::Protobuf => protobuf::event(event_type, &protobuf::object(object)),
        }
    }

    /// An event with an object of the store.
    pub(super) fn change(self, event_type: &str, kind: usize, object: &Object) -> Vec<u8> {
        let (name, ..) = KINDS[kind];
        match self {
            Encoding::Json => line(event_type, &object.json),
            Encoding::Protobuf => {
                protobuf::event(event_type, &protobuf::envelope(API_VERSIONS[kind], name, object.protobuf(name)))
            }
        }
    }

    /// A page of a list; `token` leads to the next one.
    pub(super) fn list(self, kind: usize, version: u64, token: Option<&str>, items: &[Arc<Object>]) -> Vec<u8> {
        let (name, ..) = KINDS[kind];
        let metadata = json!({"resourceVersion": version.to_string(), "continue": token.unwrap_or_default()});
        match self {
            Encoding::Json => {
                let items: Vec<&str> = items.iter().map(|item| item.json.as_str()).collect();
                let head = format!(
                    "\"kind\":\"{name}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata}",
                    API_VERSIONS[kind]
                );
                format!("{{{head},\"items\":[{}]}}\n", items.join(",")).into_bytes()
            }
            Encoding::Protobuf => protobuf::list(name, &metadata, items.iter().map(|item| item.protobuf(name))),
        }
    }
}

fn line(event_type: &str, object: &str) -> Vec<u8> {
    format!("{{\"type\":\"{event_type}\",\"object\":{object}}}\n").into_bytes()
}
