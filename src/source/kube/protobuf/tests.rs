//! Messages built from field numbers, the same objects in both encodings, and bytes that no server should send.

#[path = "../../../../test-harness/api_server/protobuf.rs"]
mod encoder;

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::source::kube::decode::Decoder;
use crate::source::kube::problems::ProblemLog;
use crate::source::kube::status::Status;
use crate::source::kube::step::{Change, Event};
use crate::source::kube::stream::Encoding;
use crate::state::Fact;

fn decoder(kind: Kind) -> (Decoder, Arc<Status>) {
    let status = Arc::new(Status::default());
    (Decoder::new(kind, ProblemLog::new(status.clone())), status)
}

/// The body of a frame.
fn body(frame: &[u8]) -> &[u8] {
    &frame[4..]
}

fn event_of(kind: Kind, event_type: &str, object: &Value) -> Result<Event, Failure> {
    let frame = encoder::event(event_type, &encoder::object(object));
    decoder(kind).0.event(Encoding::Protobuf, body(&frame))
}

/// A slice, field by field: `EndpointSlice` of k8s.io/api discovery/v1 generated.proto (metadata 1, endpoints 2, ports 3,
/// addressType 4), `ObjectMeta` of meta/v1 (name 1, namespace 3, resourceVersion 6, labels 11), `Endpoint` (addresses 1,
/// conditions 2, hostname 3, nodeName 6, zone 7, hints 8), in `Unknown` (typeMeta 1, raw 2) and `WatchEvent` (type 1,
/// object 2).
#[test]
fn a_message_made_by_hand_is_read() {
    /// Key and length before the parts: a field of bytes.
    fn field(number: u8, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        let mut out = vec![number << 3 | 2];
        if body.len() > 0x7f {
            out.push(u8::try_from(body.len() & 0x7f).unwrap() | 0x80);
        }
        out.push(u8::try_from(if body.len() > 0x7f { body.len() >> 7 } else { body.len() }).unwrap());
        out.extend(body);
        out
    }
    let label = field(11, &[&field(1, &[b"kubernetes.io/service-name"]), &field(2, &[b"svc"])]);
    let metadata = field(1, &[&field(1, &[b"s"]), &field(3, &[b"ns"]), &field(6, &[b"7"]), &label]);
    // ready 1 = true, terminating 3 = false
    let conditions = field(2, &[b"\x08\x01\x18\x00"]);
    let hints = field(8, &[&field(1, &[&field(1, &[b"z"])])]);
    let (unread, zone) = (field(3, &[b"host"]), field(7, &[b"zone"]));
    let endpoint = field(2, &[&field(1, &[b"10.1.0.1"]), &conditions, &unread, &field(6, &[b"n"]), &zone, &hints]);
    // name "", protocol TCP, port 3 = 8080
    let port = field(3, &[&field(1, &[]), &field(2, &[b"TCP"]), b"\x18\x90\x3f"]);
    let slice = field(2, &[&metadata, &endpoint, &port, &field(4, &[b"IPv4"])]);
    let type_meta = field(1, &[&field(1, &[b"discovery.k8s.io/v1"]), &field(2, &[b"EndpointSlice"])]);
    let event = [field(1, &[b"ADDED"]), field(2, &[&field(1, &[b"k8s\0", &type_meta, &slice])])].concat();

    let Ok(Event::Object { change: Change::Present(Fact::EndpointSlice(slice)), resource_version }) =
        decoder(Kind::EndpointSlice).0.event(Encoding::Protobuf, &event)
    else {
        panic!("no slice in {event:?}");
    };
    assert_eq!(
        (slice.name.to_string().as_str(), &*slice.service, resource_version.as_deref()),
        ("ns/s", "svc", Some("7"))
    );
    assert_eq!((&*slice.ports[0].name, slice.ports[0].port), ("", 8080));
    let [endpoint] = &*slice.endpoints else { panic!("{slice:?}") };
    assert_eq!((endpoint.ip.to_string().as_str(), endpoint.node()), ("10.1.0.1", Some("n")));
    assert!(endpoint.conditions.ready && endpoint.conditions.serving && !endpoint.conditions.terminating);
    assert_eq!(*endpoint.hints().unwrap().zones, ["z".into()]);
    assert_eq!(endpoint.location.as_ref().unwrap().zone.as_deref(), Some("zone"));
}

#[test]
fn bookmarks_errors_and_deletions() {
    let bookmark = |annotations: Value| {
        let object = json!({"kind": "Service", "metadata": {"resourceVersion": "9", "annotations": annotations}});
        event_of(Kind::Service, "BOOKMARK", &object).unwrap()
    };
    let version = Some("9".to_owned());
    for (annotations, ends_initial_events) in [
        (json!(null), false),
        (json!({"k8s.io/initial-events-end": "false"}), false),
        (json!({"other": "true", "k8s.io/initial-events-end": "true"}), true),
    ] {
        let expected = Event::Bookmark { resource_version: version.clone(), ends_initial_events };
        assert_eq!(bookmark(annotations), expected);
    }
    let status = json!({"kind": "Status", "code": 410, "message": "too old", "reason": "Expired"});
    assert_eq!(event_of(Kind::Node, "ERROR", &status), Err(Failure::Gone("too old".to_owned())));
    // A deletion needs nothing but the name, whatever the rest looks like.
    let node = json!({"kind": "Node", "metadata": {"name": "n", "resourceVersion": "9"}, "spec": 7});
    let Ok(Event::Object { change: Change::Absent(key), .. }) = event_of(Kind::Node, "DELETED", &node) else {
        panic!()
    };
    assert_eq!((&*key.name.namespace, &*key.name.name), ("", "n"));
}

#[test]
fn error_bodies_are_read_in_either_encoding() {
    use crate::source::kube::decode::error_response;
    let status = json!({"kind": "Status", "apiVersion": "v1", "message": "slow down", "code": 429, "details": {"retryAfterSeconds": 5}});
    let busy = error_response(429, &encoder::object(&status), None);
    assert_eq!(busy, error_response(429, status.to_string().as_bytes(), None));
    assert!(matches!(busy, Failure::Busy { code: 429, retry_after: Some(wait), .. } if wait.as_secs() == 5));
    assert!(matches!(error_response(500, b"k8s\0\xff", None), Failure::Server { code: 500, .. }));
}

#[test]
fn what_does_not_fit_is_named() {
    let port = |port: Value| {
        json!({"kind": "Service", "metadata": {"namespace": "ns", "name": "a"},
               "spec": {"ports": [{"name": "x", "port": 1}, {"name": "y", "port": port}]}})
    };
    let raw = encoder::raw("Service", &port(json!("eighty")));
    let Ok(Found::Misfit { metadata, reason, .. }) = object(Kind::Service, Text::default(), &raw) else { panic!() };
    assert_eq!((&*metadata.name, reason.as_str()), ("a", "spec.ports[1].port: expected a number"));
    for (bytes, reason) in [
        (&b"\x0a"[..], "the message is cut off within a number"),
        (b"\x0a\x05ab", "the message is cut off within a field"),
        (b"\x0a\x02\x0a\x05", "metadata: the message is cut off within a field"),
        (b"\x0a\x03\x0a\x01\xff", "metadata.name: expected a text in UTF-8"),
        (b"\x08\x01", "metadata: expected a text or message"),
        (b"\x02\x00", "a field has the number 0: this is no protobuf message"),
        (b"\x0b", "a field has an unknown wire type: this is no protobuf message of Kubernetes"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a number has more than 64 bits"),
    ] {
        let misread = object(Kind::Service, Text::default(), bytes).err().map(|misread| misread.to_string());
        assert_eq!(misread.as_deref(), Some(reason), "{bytes:?}");
    }
    // Another kind's fields mean other things; its name can still be told.
    let pod = json!({"kind": "Pod", "metadata": {"namespace": "ns", "name": "a"}});
    let Ok(Event::Object { change: Change::Unreadable, .. }) = event_of(Kind::Service, "ADDED", &pod) else { panic!() };
}

#[test]
fn envelopes_that_cannot_be_read() {
    for (bytes, reason) in [
        (&b"{}"[..], "object: it does not begin as the API's protobuf does"),
        (b"", "object: it does not begin as the API's protobuf does"),
        (b"k8s\0\x1a\x04gzip", "object: the object is compressed, which was not asked for"),
        (b"k8s\0\x22\x10application/json", "object: the object is in another encoding than protobuf"),
    ] {
        let frame = encoder::event("ADDED", bytes);
        let Err(Failure::Malformed(text)) = decoder(Kind::Node).0.event(Encoding::Protobuf, body(&frame)) else {
            panic!("{bytes:?} was read")
        };
        assert!(text.starts_with(reason) && !text.contains('\n'), "{text}");
    }
    let other = encoder::list("Pod", &json!({"resourceVersion": "1"}), std::iter::empty());
    let Err(Failure::Malformed(text)) = decoder(Kind::Node).0.page(Encoding::Protobuf, &other) else { panic!() };
    assert!(text.starts_with("list: kind \"PodList\" where a list of kind Node was asked for"), "{text}");
}

#[test]
fn a_bad_object_does_not_stop_the_page() {
    let (mut decoder, status) = decoder(Kind::Service);
    let service = |name: &str, spec: Value| {
        encoder::raw("Service", &json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec}))
    };
    let items = [
        service("a", json!({"clusterIP": "10.0.0.1"})),
        service("bad", json!({"ports": 7})),
        service("", json!({})),
        b"\xff".to_vec(),
        service("b", json!({"clusterIP": "10.0.0.2", "externalIPs": ["x"]})),
    ];
    let metadata = json!({"resourceVersion": "7", "continue": "t"});
    let body = encoder::list("Service", &metadata, items.iter().map(Vec::as_slice));
    for _ in 0..2 {
        let page = decoder.page(Encoding::Protobuf, &body).unwrap();
        let present: Vec<bool> = page.changes.iter().map(|change| matches!(change, Change::Present(_))).collect();
        assert_eq!(present, [true, false, false, false, true]);
        assert_eq!((page.resource_version.as_str(), page.continue_token.as_deref()), ("7", Some("t")));
        assert_eq!(status.problems(), 4, "each once");
    }
}

/// An annotation that cannot be read is told once, however often the object is listed, in either encoding, until it is
/// mended and broken again.
#[test]
fn a_bad_annotation_is_told_once() {
    let (mut decoder, status) = decoder(Kind::Service);
    let mut told_after = |weights: &str| {
        let annotations = json!({"weir.dev/weights": weights, "weir.dev/scheduler": "lc"});
        let object = json!({"metadata": {"namespace": "ns", "name": "a", "annotations": annotations}});
        let metadata = json!({"resourceVersion": "7"});
        let raw = encoder::raw("Service", &object);
        let list = encoder::list("Service", &metadata, std::iter::once(raw.as_slice()));
        let text = json!({"metadata": metadata, "items": [object]}).to_string();
        for (encoding, body) in [(Encoding::Protobuf, &*list), (Encoding::Json, text.as_bytes())] {
            let page = decoder.page(encoding, body).unwrap();
            let [Change::Present(Fact::Service(service))] = page.changes.as_slice() else { panic!("{page:?}") };
            assert_eq!(service.tuning.as_ref().unwrap().scheduler.as_deref(), Some("lc"));
        }
        status.problems()
    };
    assert_eq!([told_after("zone=a"), told_after("zone=a"), told_after("zone=b")], [1, 1, 2]);
    assert_eq!([told_after("zone=a:1"), told_after("zone=a")], [2, 3]);
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => prop_oneof![
            Just("IPv4"), Just("IPv6"), Just("TCP"), Just("UDP"), Just("Local"), Just("Cluster"), Just("None"), Just(""),
            Just("10.1.2.3"), Just("fd00::1"), Just("10.0.0.0/8"), Just("ClientIP"), Just("VIP"), Just("a-name"),
        ].prop_map(Value::from),
        1 => "\\PC{0,12}".prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn word() -> impl Strategy<Value = Value> {
    "[a-z\"\u{e9}.]{1,8}".prop_map(Value::from)
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![4 => (-2i32..70_000).prop_map(Value::from), 1 => any::<i32>().prop_map(Value::from), 1 => Just(Value::Null)]
}

fn flag() -> impl Strategy<Value = Value> {
    any::<Option<bool>>().prop_map(Value::from)
}

fn list(item: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop_oneof![5 => vec(item, 0..4).prop_map(Value::from), 1 => Just(Value::Null)]
}

/// A list of texts: none of them null, which protobuf cannot say.
fn texts() -> impl Strategy<Value = Value> {
    list(text().prop_map(|text| if text.is_null() { "".into() } else { text }))
}

/// Annotations that tune a service, good and bad.
fn tuning() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let names = [
        "weir.dev/scheduler",
        "weir.dev/scheduler-flags",
        "weir.dev/weights",
        "weir.dev/drain-seconds",
        "kube-router.io/service.scheduler",
        "kube-router.io/service.schedflags",
    ];
    let value = "rr|lc|l c|sh-port|flag-1,sh-port|port|zone=[ab]:[0-9]{1,6}(,node=n:2)?|[0-9]{1,9}|\\PC{0,3}";
    vec((prop::sample::select(names.to_vec()), value), 0..4).boxed()
}

fn metadata() -> impl Strategy<Value = Value> {
    (word(), text(), text(), text(), text(), flag(), any::<u32>(), tuning()).prop_map(
        |(name, namespace, service, time, zone, deleted, version, tuning)| {
            let mut labels =
                json!({"app": "x", "kubernetes.io/service-name": service, "topology.kubernetes.io/zone": zone});
            labels.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            let deleted = deleted.as_bool().map(|_| "2026-03-01T09:14:07Z");
            let mut annotations = json!({"endpoints.kubernetes.io/last-change-trigger-time": time, "a": "b"});
            let tuning = tuning.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
            annotations.as_object_mut().unwrap().extend(tuning);
            annotations.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            json!({"name": name, "namespace": namespace, "labels": labels, "annotations": annotations,
                   "resourceVersion": version.to_string(), "deletionTimestamp": deleted,
                   "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}]})
        },
    )
}

fn service() -> impl Strategy<Value = Value> {
    let port = (text(), text(), number(), number()).prop_map(|(name, protocol, port, node_port)| {
        // A port without a number is 0 in protobuf, and none in JSON that an API server wrote.
        let port = if port.is_null() { json!(0) } else { port };
        json!({"name": name, "protocol": protocol, "port": port, "nodePort": node_port, "targetPort": "web"})
    });
    let ingress = (text(), text()).prop_map(|(ip, mode)| json!({"ip": ip, "ipMode": mode}));
    let words = (text(), text(), text(), text(), text());
    let lists = (list(port), texts(), texts(), texts(), texts(), list(ingress));
    (metadata(), words, lists, number(), number()).prop_map(|(metadata, words, lists, timeout, health)| {
        json!({
            "kind": "Service", "apiVersion": "v1", "metadata": metadata,
            "spec": {
                "type": words.0, "clusterIP": words.1, "sessionAffinity": words.2, "internalTrafficPolicy": words.3,
                "externalTrafficPolicy": words.4, "ports": lists.0, "clusterIPs": lists.1, "ipFamilies": lists.2,
                "externalIPs": lists.3, "loadBalancerSourceRanges": lists.4, "healthCheckNodePort": health,
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": timeout}},
            },
            "status": {"loadBalancer": {"ingress": lists.5}},
        })
    })
}

fn slice() -> impl Strategy<Value = Value> {
    let port = (text(), text(), number())
        .prop_map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port}));
    let named = || list(word().prop_map(|name| json!({"name": name})));
    let endpoint = (texts(), text(), text(), flag(), flag(), flag(), named(), named()).prop_map(
        |(addresses, node, zone, ready, serving, terminating, zones, nodes)| {
            json!({"addresses": addresses, "nodeName": node, "zone": zone, "hostname": "h",
                   "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
                   "hints": {"forZones": zones, "forNodes": nodes}, "targetRef": {"kind": "Pod", "name": "p"}})
        },
    );
    (metadata(), text(), list(port), list(endpoint)).prop_map(|(metadata, family, ports, endpoints)| {
        json!({"kind": "EndpointSlice", "metadata": metadata, "addressType": family, "ports": ports, "endpoints": endpoints})
    })
}

fn node() -> impl Strategy<Value = Value> {
    let address = (text(), text()).prop_map(|(kind, address)| {
        let or_empty = |text: Value| if text.is_null() { json!("") } else { text };
        json!({"type": or_empty(kind), "address": or_empty(address)})
    });
    let taint = word().prop_map(|key| json!({"key": key, "effect": "NoSchedule"}));
    (metadata(), text(), texts(), list(taint), list(address)).prop_map(|(metadata, cidr, cidrs, taints, addresses)| {
        json!({"kind": "Node", "metadata": metadata, "spec": {"podCIDR": cidr, "podCIDRs": cidrs, "taints": taints},
               "status": {"addresses": addresses}})
    })
}

fn cidr() -> impl Strategy<Value = Value> {
    (metadata(), texts())
        .prop_map(|(metadata, cidrs)| json!({"kind": "ServiceCIDR", "metadata": metadata, "spec": {"cidrs": cidrs}}))
}

fn any_object() -> impl Strategy<Value = (Kind, Value)> {
    prop_oneof![
        service().prop_map(|object| (Kind::Service, object)),
        slice().prop_map(|object| (Kind::EndpointSlice, object)),
        node().prop_map(|object| (Kind::Node, object)),
        cidr().prop_map(|object| (Kind::ServiceCidr, object)),
    ]
}

proptest! {
    /// The same object in both encodings is the same change with the same problems.
    #[test]
    fn both_encodings_say_the_same((kind, object) in any_object(), event_type in "ADDED|MODIFIED|DELETED|BOOKMARK|OTHER") {
        let line = json!({"type": event_type, "object": object}).to_string();
        let frame = encoder::event(&event_type, &encoder::object(&object));
        let ((mut json, json_status), (mut protobuf, protobuf_status)) = (decoder(kind), decoder(kind));
        let expected = json.event(Encoding::Json, line.as_bytes());
        prop_assert!(expected.is_ok(), "{expected:?}");
        prop_assert_eq!(protobuf.event(Encoding::Protobuf, body(&frame)), expected);
        prop_assert_eq!(protobuf_status.problems(), json_status.problems());
        // And as an item of a list.
        let metadata = json!({"resourceVersion": "5"});
        let item = encoder::raw(kind.as_str(), &object);
        let bytes = encoder::list(kind.as_str(), &metadata, std::iter::once(item.as_slice()));
        let text = json!({"metadata": metadata, "items": [object]}).to_string();
        prop_assert_eq!(
            protobuf.page(Encoding::Protobuf, &bytes).unwrap(), json.page(Encoding::Json, text.as_bytes()).unwrap()
        );
    }

    /// Damage to an event is an error or another event, never a panic.
    #[test]
    fn damaged_events_never_panic(
        (kind, object) in any_object(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let frame = encoder::event("ADDED", &encoder::object(&object));
        let mut event = body(&frame).to_vec();
        for (at, byte) in damage {
            let at = at.index(event.len());
            event[at] = byte;
        }
        let (mut decoder, _) = decoder(kind);
        let _ = decoder.event(Encoding::Protobuf, &event);
        event.truncate(cut.index(event.len()));
        let _ = decoder.event(Encoding::Protobuf, &event);
    }

    /// Bytes that look like fields, nested at random.
    #[test]
    fn arbitrary_fields_never_panic(fields in vec((1u64..24, 0u8..8, vec(any::<u8>(), 0..12)), 0..20)) {
        let mut raw = Vec::new();
        for (number, wire_type, bytes) in fields {
            match wire_type {
                0 => encoder::number(&mut raw, number, bytes.len() as u64),
                2 => encoder::bytes(&mut raw, number, &bytes),
                other => {
                    raw.push(u8::try_from(number << 3 & 0x7f).unwrap() | other);
                    raw.extend(&bytes);
                }
            }
        }
        for kind in Kind::ALL {
            let frame = encoder::event("ADDED", &encoder::envelope("", "", &raw));
            let (mut decoder, _) = decoder(kind);
            let _ = decoder.event(Encoding::Protobuf, body(&frame));
            let _ = decoder.page(Encoding::Protobuf, &encoder::envelope("v1", "ServiceList", &raw));
        }
    }
}
