//! Objects in JSON to the API's protobuf, as an API server writes it.
//!
//! It is written from the field numbers in the `generated.proto` files of `k8s.io/api` and `k8s.io/apimachinery`, and
//! knows nothing of the decoder that it tests. As Go's encoder does, it writes a field that is no pointer even if it is
//! empty. A JSON value of another type than the field's is written as what it is: a misfit stays a misfit.

// Every user takes its own part of it, and a test fails by panicking.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;

type Message = &'static [Field];

struct Field {
    name: &'static str,
    number: u64,
    kind: Kind,
    /// A pointer in Go: written only if it is there.
    pointer: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Int,
    Bool,
    /// RFC 3339 in JSON, seconds and nanoseconds in protobuf; what the time is does not matter here.
    Time,
    IntOrString,
    /// `FieldsV1`: the JSON text as bytes.
    Fields,
    /// From texts to texts.
    Map,
    Texts,
    One(Message),
    Many(Message),
}

const fn f(name: &'static str, number: u64, kind: Kind) -> Field {
    Field { name, number, kind, pointer: false }
}

/// A field that is a pointer.
const fn p(name: &'static str, number: u64, kind: Kind) -> Field {
    Field { name, number, kind, pointer: true }
}

use Kind::{Bool, Fields, Int, IntOrString, Many, Map, One, Text, Texts, Time};

// k8s.io/apimachinery pkg/apis/meta/v1 generated.proto
const OWNER: Message = &[
    f("kind", 1, Text),
    f("name", 3, Text),
    f("uid", 4, Text),
    f("apiVersion", 5, Text),
    p("controller", 6, Bool),
    p("blockOwnerDeletion", 7, Bool),
];
const MANAGED: Message = &[
    f("manager", 1, Text),
    f("operation", 2, Text),
    f("apiVersion", 3, Text),
    p("time", 4, Time),
    f("fieldsType", 6, Text),
    p("fieldsV1", 7, Fields),
    f("subresource", 8, Text),
];
const METADATA: Message = &[
    f("name", 1, Text),
    f("generateName", 2, Text),
    f("namespace", 3, Text),
    f("selfLink", 4, Text),
    f("uid", 5, Text),
    f("resourceVersion", 6, Text),
    f("generation", 7, Int),
    f("creationTimestamp", 8, Time),
    p("deletionTimestamp", 9, Time),
    p("deletionGracePeriodSeconds", 10, Int),
    p("labels", 11, Map),
    p("annotations", 12, Map),
    p("ownerReferences", 13, Many(OWNER)),
    p("finalizers", 14, Texts),
    p("managedFields", 17, Many(MANAGED)),
];
const LIST_METADATA: Message =
    &[f("selfLink", 1, Text), f("resourceVersion", 2, Text), f("continue", 3, Text), p("remainingItemCount", 4, Int)];
const STATUS_DETAILS: Message =
    &[f("name", 1, Text), f("group", 2, Text), f("kind", 3, Text), f("retryAfterSeconds", 5, Int), f("uid", 6, Text)];
const STATUS: Message = &[
    f("metadata", 1, One(LIST_METADATA)),
    f("status", 2, Text),
    f("message", 3, Text),
    f("reason", 4, Text),
    p("details", 5, One(STATUS_DETAILS)),
    f("code", 6, Int),
];

// k8s.io/api core/v1 generated.proto
const SERVICE_PORT: Message = &[
    f("name", 1, Text),
    f("protocol", 2, Text),
    f("port", 3, Int),
    f("targetPort", 4, IntOrString),
    f("nodePort", 5, Int),
    p("appProtocol", 6, Text),
];
const SERVICE_SPEC: Message = &[
    p("ports", 1, Many(SERVICE_PORT)),
    p("selector", 2, Map),
    f("clusterIP", 3, Text),
    f("type", 4, Text),
    p("externalIPs", 5, Texts),
    f("sessionAffinity", 7, Text),
    f("loadBalancerIP", 8, Text),
    p("loadBalancerSourceRanges", 9, Texts),
    f("externalName", 10, Text),
    f("externalTrafficPolicy", 11, Text),
    f("healthCheckNodePort", 12, Int),
    f("publishNotReadyAddresses", 13, Bool),
    p("sessionAffinityConfig", 14, One(&[p("clientIP", 1, One(&[p("timeoutSeconds", 1, Int)]))])),
    p("ipFamilyPolicy", 17, Text),
    p("clusterIPs", 18, Texts),
    p("ipFamilies", 19, Texts),
    p("allocateLoadBalancerNodePorts", 20, Bool),
    p("loadBalancerClass", 21, Text),
    p("internalTrafficPolicy", 22, Text),
    p("trafficDistribution", 23, Text),
];
const INGRESS: Message = &[f("ip", 1, Text), f("hostname", 2, Text), p("ipMode", 3, Text)];
const SERVICE: Message = &[
    f("metadata", 1, One(METADATA)),
    f("spec", 2, One(SERVICE_SPEC)),
    f("status", 3, One(&[f("loadBalancer", 1, One(&[p("ingress", 1, Many(INGRESS))]))])),
];
const TAINT: Message = &[f("key", 1, Text), f("value", 2, Text), f("effect", 3, Text), p("timeAdded", 4, Time)];
const NODE: Message = &[
    f("metadata", 1, One(METADATA)),
    f(
        "spec",
        2,
        One(&[
            f("podCIDR", 1, Text),
            f("externalID", 2, Text),
            f("providerID", 3, Text),
            f("unschedulable", 4, Bool),
            p("taints", 5, Many(TAINT)),
            p("podCIDRs", 7, Texts),
        ]),
    ),
    f("status", 3, One(&[f("phase", 3, Text), p("addresses", 5, Many(&[f("type", 1, Text), f("address", 2, Text)]))])),
];
const REFERENCE: Message = &[
    f("kind", 1, Text),
    f("namespace", 2, Text),
    f("name", 3, Text),
    f("uid", 4, Text),
    f("apiVersion", 5, Text),
    f("resourceVersion", 6, Text),
    f("fieldPath", 7, Text),
];

// k8s.io/api discovery/v1 generated.proto
const NAMED: Message = &[f("name", 1, Text)];
const ENDPOINT: Message = &[
    p("addresses", 1, Texts),
    f("conditions", 2, One(&[p("ready", 1, Bool), p("serving", 2, Bool), p("terminating", 3, Bool)])),
    p("hostname", 3, Text),
    p("targetRef", 4, One(REFERENCE)),
    p("deprecatedTopology", 5, Map),
    p("nodeName", 6, Text),
    p("zone", 7, Text),
    p("hints", 8, One(&[p("forZones", 1, Many(NAMED)), p("forNodes", 2, Many(NAMED))])),
];
const SLICE_PORT: Message = &[p("name", 1, Text), p("protocol", 2, Text), p("port", 3, Int), p("appProtocol", 4, Text)];
const SLICE: Message = &[
    f("metadata", 1, One(METADATA)),
    p("endpoints", 2, Many(ENDPOINT)),
    p("ports", 3, Many(SLICE_PORT)),
    f("addressType", 4, Text),
];

// k8s.io/api networking/v1 generated.proto
const SERVICE_CIDR: Message = &[f("metadata", 1, One(METADATA)), f("spec", 2, One(&[p("cidrs", 1, Texts)]))];

/// What all objects have.
const ANYTHING: Message = &[f("metadata", 1, One(METADATA))];

/// What every message that is sent on its own begins with.
const MAGIC: &[u8] = b"k8s\0";

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of numbers.
pub fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

/// A field of bytes: a text, or a message.
pub fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn message(out: &mut Vec<u8>, fields: Message, object: &Value) {
    if let Some(unknown) = object.as_object().into_iter().flat_map(|object| object.keys()).find(|name| {
        !matches!(name.as_str(), "kind" | "apiVersion") && !fields.iter().any(|field| field.name == name.as_str())
    }) {
        panic!("the encoder does not know the field {unknown:?} of {object}");
    }
    for field in fields {
        match &object[field.name] {
            Value::Null if field.pointer => {}
            value => encode(out, field.number, field.kind, value),
        }
    }
}

fn encode(out: &mut Vec<u8>, number_of: u64, kind: Kind, value: &Value) {
    let nested = |fields: Message, value: &Value| {
        let mut inner = Vec::new();
        message(&mut inner, fields, value);
        inner
    };
    match (kind, value) {
        (Text, Value::Null) => bytes(out, number_of, b""),
        (Int | Bool, Value::Null) => number(out, number_of, 0),
        (Time, Value::Null | Value::String(_)) => bytes(out, number_of, &time(value)),
        (IntOrString, value) => bytes(out, number_of, &int_or_string(value)),
        (Fields, value) => {
            let mut inner = Vec::new();
            bytes(&mut inner, 1, value.to_string().as_bytes());
            bytes(out, number_of, &inner);
        }
        (Map, Value::Object(entries)) => {
            for (key, value) in entries {
                let mut entry = Vec::new();
                bytes(&mut entry, 1, key.as_bytes());
                encode(&mut entry, 2, Text, value);
                bytes(out, number_of, &entry);
            }
        }
        (Texts, Value::Array(items)) => items.iter().for_each(|item| encode(out, number_of, Text, item)),
        (One(fields), Value::Null | Value::Object(_)) => bytes(out, number_of, &nested(fields, value)),
        (Many(fields), Value::Array(items)) => {
            items.iter().for_each(|item| encode(out, number_of, One(fields), item));
        }
        (_, value) => as_it_is(out, number_of, value),
    }
}

fn as_it_is(out: &mut Vec<u8>, field: u64, value: &Value) {
    match value {
        Value::String(text) => bytes(out, field, text.as_bytes()),
        Value::Bool(flag) => number(out, field, u64::from(*flag)),
        Value::Number(value) => number(out, field, value.as_i64().expect("a whole number") as u64),
        other => panic!("no field has the value {other}"),
    }
}

/// `Time` of meta/v1, always the same.
fn time(value: &Value) -> Vec<u8> {
    let mut inner = Vec::new();
    if value.is_string() {
        number(&mut inner, 1, 1_772_356_447);
        number(&mut inner, 2, 0);
    }
    inner
}

/// `IntOrString` of apimachinery pkg/util/intstr.
fn int_or_string(value: &Value) -> Vec<u8> {
    let mut inner = Vec::new();
    number(&mut inner, 1, u64::from(value.is_string()));
    number(&mut inner, 2, value.as_i64().unwrap_or_default() as u64);
    bytes(&mut inner, 3, value.as_str().unwrap_or_default().as_bytes());
    inner
}

/// `Unknown` of apimachinery pkg/runtime, with what it begins with.
pub fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    bytes(&mut type_meta, 1, api_version.as_bytes());
    bytes(&mut type_meta, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    bytes(&mut out, 1, &type_meta);
    bytes(&mut out, 2, raw);
    bytes(&mut out, 3, b"");
    bytes(&mut out, 4, b"");
    out
}

/// The bytes of an object, without what is around it.
pub fn raw(kind: &str, object: &Value) -> Vec<u8> {
    let fields = match kind {
        "Service" => SERVICE,
        "EndpointSlice" => SLICE,
        "Node" => NODE,
        "ServiceCIDR" => SERVICE_CIDR,
        "Status" => STATUS,
        // All that is known of any other kind.
        _ => ANYTHING,
    };
    let mut raw = Vec::new();
    message(&mut raw, fields, object);
    raw
}

/// An object that is sent on its own.
pub fn object(object: &Value) -> Vec<u8> {
    let text = |field| object[field].as_str().unwrap_or_default();
    envelope(text("apiVersion"), text("kind"), &raw(text("kind"), object))
}

/// A page of a list: items as [`raw`] bytes.
pub fn list<'a>(kind: &str, metadata: &Value, items: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut raw = Vec::new();
    encode(&mut raw, 1, One(LIST_METADATA), metadata);
    for item in items {
        bytes(&mut raw, 2, item);
    }
    envelope("v1", &format!("{kind}List"), &raw)
}

/// `WatchEvent` of meta/v1 around an object in its envelope, as a frame.
pub fn event(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut extension = Vec::new();
    bytes(&mut extension, 1, object);
    let mut event = Vec::new();
    bytes(&mut event, 1, event_type.as_bytes());
    bytes(&mut event, 2, &extension);
    frame(&event)
}

/// A frame of a watch: four bytes of length, the highest first.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len()).expect("a frame below 4 GiB").to_be_bytes().to_vec();
    out.extend(body);
    out
}
