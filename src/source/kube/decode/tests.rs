//! Pages, events and error bodies, as servers write them and as nobody should.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::source::kube::status::Status;

fn decoder(kind: Kind) -> (Decoder, Arc<Status>) {
    let status = Arc::new(Status::default());
    (Decoder::new(kind, ProblemLog::new(status.clone())), status)
}

fn event(kind: Kind, line: &str) -> Result<Event, Failure> {
    decoder(kind).0.event(Encoding::Json, line.as_bytes())
}

fn absent(kind: Kind, namespace: &str, name: &str) -> Change {
    Change::Absent(FactKey { kind, name: ObjectName::new(namespace, name) })
}

#[test]
fn events_become_changes() {
    let added = r#"{"type":"ADDED","object":{"kind":"Service","metadata":{"namespace":"ns","name":"a","resourceVersion":"5"},"spec":{"clusterIP":"10.0.0.1"}}}"#;
    let Ok(Event::Object { change: Change::Present(Fact::Service(service)), resource_version }) =
        event(Kind::Service, added)
    else {
        panic!("no service");
    };
    assert_eq!((service.name.to_string().as_str(), resource_version.as_deref()), ("ns/a", Some("5")));
    // A deletion needs nothing but the name, whatever the rest looks like.
    let deleted =
        r#"{"type":"DELETED","object":{"metadata":{"namespace":"ns","name":"a","resourceVersion":"6"},"spec":7}}"#;
    let expected = Event::Object { change: absent(Kind::Service, "ns", "a"), resource_version: Some("6".to_owned()) };
    assert_eq!(event(Kind::Service, deleted), Ok(expected));
    let deleted = r#"{"type":"DELETED","object":{"kind":"Node","metadata":{"name":"n"}}}"#;
    let expected = Event::Object { change: absent(Kind::Node, "", "n"), resource_version: None };
    assert_eq!(event(Kind::Node, deleted), Ok(expected));
}

#[test]
fn objects_that_the_selector_should_have_left_out_are_absent() {
    for (kind, object) in [
        (Kind::Service, r#"{"metadata":{"namespace":"ns","name":"a"},"spec":{"clusterIP":"None"}}"#),
        (
            Kind::Service,
            r#"{"metadata":{"namespace":"ns","name":"a","labels":{"service.kubernetes.io/service-proxy-name":""}}}"#,
        ),
        (
            Kind::EndpointSlice,
            r#"{"metadata":{"namespace":"ns","name":"a","labels":{"service.kubernetes.io/headless":""}},"addressType":"IPv4"}"#,
        ),
    ] {
        let line = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
        let expected = Event::Object { change: absent(kind, "ns", "a"), resource_version: None };
        assert_eq!(event(kind, &line), Ok(expected), "{line}");
    }
}

#[test]
fn bookmarks_end_the_initial_events_if_they_say_so() {
    for (annotations, ends_initial_events) in [
        ("", false),
        (r#","annotations":{}"#, false),
        (r#","annotations":{"k8s.io/initial-events-end":"false"}"#, false),
        (r#","annotations":{"k8s.io/initial-events-end":"true"}"#, true),
    ] {
        let line = format!(
            r#"{{"type":"BOOKMARK","object":{{"kind":"Service","metadata":{{"resourceVersion":"9"{annotations}}}}}}}"#
        );
        let expected = Event::Bookmark { resource_version: Some("9".to_owned()), ends_initial_events };
        assert_eq!(event(Kind::Service, &line), Ok(expected));
    }
}

#[test]
fn error_events_are_the_failures_that_they_tell() {
    for (status, failure) in [
        (r#"{"code":410,"message":"m"}"#, Failure::Gone("m".to_owned())),
        (r#"{"code":400,"reason":"Expired","message":"m"}"#, Failure::Gone("m".to_owned())),
        (r#"{"code":500,"message":"m"}"#, Failure::Server { code: 500, message: "m".to_owned() }),
        (
            r#"{"code":429,"message":"m","details":{"retryAfterSeconds":7}}"#,
            Failure::Busy { code: 429, message: "m".to_owned(), retry_after: Some(Duration::from_secs(7)) },
        ),
        (r#"{"code":403,"message":"m"}"#, Failure::Denied { code: 403, message: "m".to_owned() }),
        ("{}", Failure::Server { code: 0, message: String::new() }),
    ] {
        assert_eq!(event(Kind::Node, &format!(r#"{{"type":"ERROR","object":{status}}}"#)), Err(failure));
    }
}

#[test]
fn error_bodies_may_be_anything() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (code, body, header, failure) in [
        (
            503,
            "<html>\n\u{7}busy</html>",
            seconds(2),
            Failure::Busy { code: 503, message: "<html>  busy</html>".to_owned(), retry_after: seconds(2) },
        ),
        (
            429,
            r#"{"message":"slow down","details":{"retryAfterSeconds":5}}"#,
            None,
            Failure::Busy { code: 429, message: "slow down".to_owned(), retry_after: seconds(5) },
        ),
        (422, r#"{"message":"no"}"#, None, Failure::Refused { code: 422, message: "no".to_owned() }),
        (404, "404 page not found\n", None, Failure::Missing("404 page not found".to_owned())),
        (302, "", None, Failure::Server { code: 302, message: String::new() }),
    ] {
        assert_eq!(error_response(code, body.as_bytes(), header), failure);
    }
    let Failure::Server { message, .. } = error_response(500, &[b'x'; 9999], None) else { panic!() };
    assert_eq!(message.len(), 200);
}

#[test]
fn a_bad_object_does_not_stop_the_page() {
    let (mut decoder, status) = decoder(Kind::Service);
    let body = br#"{"kind":"ServiceList","metadata":{"resourceVersion":"7","continue":"t"},"items":[
        {"metadata":{"namespace":"ns","name":"a"},"spec":{"clusterIP":"10.0.0.1"}},
        {"metadata":{"namespace":"ns","name":"bad"},"spec":{"ports":"none"}},
        {"metadata":{"namespace":"ns"}},
        {"metadata":7},
        {"metadata":{"namespace":"ns","name":"b"},"spec":{"clusterIP":"10.0.0.2","externalIPs":["x"]}}]}"#;
    for _ in 0..2 {
        let page = decoder.page(Encoding::Json, body).unwrap();
        let kinds: Vec<bool> = page.changes.iter().map(|change| matches!(change, Change::Present(_))).collect();
        assert_eq!(kinds, [true, false, false, false, true]);
        assert_eq!((page.resource_version.as_str(), page.continue_token.as_deref()), ("7", Some("t")));
        assert_eq!(status.problems(), 4, "each once");
    }
}

#[test]
fn a_list_without_version_or_shape_cannot_be_read() {
    for body in ["", "{}", r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":""},"items":[]}"#, "[]", "null"] {
        assert!(
            matches!(decoder(Kind::Node).0.page(Encoding::Json, body.as_bytes()), Err(Failure::Malformed(_))),
            "{body}"
        );
    }
    // Go writes an empty slice as null.
    let page =
        decoder(Kind::Node).0.page(Encoding::Json, br#"{"metadata":{"resourceVersion":"1"},"items":null}"#).unwrap();
    assert!(page.changes.is_empty());
}

#[test]
fn equal_strings_are_shared_and_swept() {
    let (mut decoder, _) = decoder(Kind::EndpointSlice);
    let line = |name: &str| {
        format!(
            r#"{{"type":"ADDED","object":{{"metadata":{{"namespace":"ns","name":"{name}","labels":{{"kubernetes.io/service-name":"svc"}}}},"addressType":"IPv4"}}}}"#
        )
    };
    let mut namespace = |name: &str| match decoder.event(Encoding::Json, line(name).as_bytes()) {
        Ok(Event::Object { change: Change::Present(Fact::EndpointSlice(slice)), .. }) => slice.name.namespace,
        other => panic!("{other:?}"),
    };
    let (first, second) = (namespace("a"), namespace("b"));
    assert!(Arc::ptr_eq(&first, &second));
    drop(second);
    assert_eq!(Arc::strong_count(&first), 2, "ours and the decoder's");
    drop(first);
    decoder.sweep();
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for kind in Kind::ALL {
            let (mut decoder, _) = decoder(kind);
            for encoding in [Encoding::Json, Encoding::Protobuf] {
                let _ = decoder.event(encoding, &bytes);
                let _ = decoder.page(encoding, &bytes);
            }
        }
        let _ = error_response(500, &bytes, None);
    }

    /// Damaged but mostly well-formed events.
    #[test]
    fn damaged_events_never_panic(at in 0usize..200, byte in any::<u8>()) {
        let line = r#"{"type":"ADDED","object":{"kind":"EndpointSlice","metadata":{"namespace":"ns","name":"a","labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4","ports":[{"name":"","port":80}],"endpoints":[{"addresses":["10.0.0.1"]}]}}"#;
        let mut bytes = line.as_bytes().to_vec();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let (mut decoder, _) = decoder(Kind::EndpointSlice);
        let _ = decoder.event(Encoding::Json, &bytes);
    }
}
