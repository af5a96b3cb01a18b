//! Events as objects, and which of them are written.

use std::sync::Arc;

use serde_json::{Value, json};

use super::ledger::Ledger;
use super::object::{Series, name, patch, whole};
use super::*;
use crate::engine::Notice;
use crate::model::ServicePortKey;
use crate::net::{Family, ObjectName, Protocol, ServicePortName};
use crate::source::wire::Problem;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_800_000_000 + second, 123_456_789).unwrap()
}

fn node() -> Arc<str> {
    "node-a".into()
}

fn web() -> ObjectName {
    ObjectName::new("shop", "web")
}

fn note(text: &str) -> Event {
    Event::failed_service_healthcheck(&web(), &text)
}

#[test]
fn an_event_as_kube_proxy_writes_it() {
    let event = Event::starting(&node(), "iptables");
    let object = whole(&event, &name(&event, at(0)), "node-a", at(0), None);
    let expected = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "node-a.18fae2769b0fcd15", "namespace": "default"},
        "eventTime": "2027-01-15T08:00:00.123456Z",
        "reportingController": "kube-proxy",
        "reportingInstance": "kube-proxy-node-a",
        "type": "Normal",
        "reason": "Starting",
        "action": "StartKubeProxy",
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": "node-a"},
        "note": concat!("weir ", env!("CARGO_PKG_VERSION"), " serves in mode iptables"),
    });
    assert_eq!(serde_json::to_value(object).unwrap(), expected);
}

#[test]
fn an_event_of_a_service_is_in_its_namespace() {
    let event = note("node node-a: port 30000: in use");
    let series = Some(Series { count: 3, last: at(60) });
    let object: Value = serde_json::to_value(whole(&event, "web.1", "node-a", at(0), series)).unwrap();
    assert_eq!(object["metadata"]["namespace"], "shop");
    let regarding = json!({"apiVersion": "v1", "kind": "Service", "namespace": "shop", "name": "web"});
    assert_eq!(object["regarding"], regarding);
    assert_eq!((&object["type"], &object["action"]), (&json!("Warning"), &json!("Listen")));
    assert_eq!(object["reason"], "FailedToStartServiceHealthcheck");
    let series = json!({"count": 3, "lastObservedTime": "2027-01-15T08:01:00.123456Z"});
    assert_eq!(object["series"], series);
    assert_eq!(patch(Series { count: 3, last: at(60) }), json!({ "series": series }));
}

/// The API server refuses what is longer.
#[test]
fn long_names_and_notes_are_cut() {
    let service = ObjectName::new("ns", format!("{}.{}", "a".repeat(234), "b".repeat(18)));
    let event = Event::failed_service_healthcheck(&service, &"\u{e9}".repeat(2_000));
    let name = name(&event, at(0));
    assert!(name.len() <= 253 && name.starts_with("aaa") && !name.contains(".."), "{name}");
    let object = whole(&event, &name, &"n".repeat(253), at(0), None);
    assert_eq!(object.note.unwrap().len(), 1024);
    assert_eq!(object.reporting_instance.unwrap().len(), 128);
    let event = Event::failed_service_healthcheck(&service, &format!("x{}", "\u{e9}".repeat(2_000)));
    assert_eq!(whole(&event, "n", "n", at(0), None).note.unwrap().len(), 1023, "no half a character");
}

#[test]
fn what_the_engine_tells() {
    let port = ServicePortName::new(web(), "http", Protocol::Tcp);
    let key = ServicePortKey { family: Family::V6, name: port };
    let refused = Notice::Quarantined { key: key.clone(), reason: "Invalid argument".to_owned(), kept: true };
    let event = Event::of_notice(&node(), &refused).unwrap();
    assert_eq!((event.event_type, event.reason), (EventType::Warning, "ServicePortRefused"));
    assert_eq!(event.regarding, Regarding::Service(web()));
    let start = "node-a: the kernel refuses service port IPv6 shop/web:http/tcp: its last good rules stay";
    assert!(event.note.starts_with(start), "{}", event.note);
    let served = Notice::Recovered { key, attempts: 2, after: s(3) };
    assert_eq!(Event::of_notice(&node(), &served).unwrap().event_type, EventType::Normal);
    assert_eq!(Event::of_notice(&node(), &Notice::RepairWorks { failures: 1 }), None);
}

#[test]
fn problems_of_services_only() {
    let mut problem = Problem {
        object: "Service shop/web".to_owned(),
        field: "metadata.annotations[weir.dev/scheduler]".to_owned(),
        value: "best!".to_owned(),
        expected: "a name",
    };
    let event = Event::unusable(&web(), &problem).unwrap();
    assert_eq!(event.note, "metadata.annotations[weir.dev/scheduler]: \"best!\" is left out: expected a name");
    problem.object = "EndpointSlice shop/web".to_owned();
    assert_eq!(Event::unusable(&web(), &problem), None);
}

#[test]
fn what_repeats_is_one_event_with_a_count() {
    let mut ledger = Ledger::new(&Tuning::default());
    let first = ledger.take(note("a"), at(0), s(0)).unwrap().unwrap();
    assert_eq!(first.series, None);
    let second = ledger.take(note("a"), at(1), s(1)).unwrap().unwrap();
    assert_eq!((&second.name, second.series), (&first.name, Some(Series { count: 2, last: at(1) })));
    for n in 2..400 {
        assert_eq!(ledger.take(note("a"), at(n as i64), s(n)), Ok(None));
        let due = ledger.due(s(n));
        assert_eq!(due.len(), usize::from(n == 361), "at {n}");
        if let [due] = &due[..] {
            assert_eq!(due.series, Some(Series { count: 362, last: at(361) }));
        }
    }
    assert_eq!(ledger.take(note("b"), at(400), s(400)).unwrap().unwrap().series, None, "another one");
    // The last count is written, and then it is forgotten.
    assert_eq!(ledger.due(s(720)), []);
    let due = ledger.due(s(721));
    assert_eq!(due[0].series.unwrap().count, 400);
    assert_eq!(ledger.due(s(9_999)), []);
    let again = ledger.take(note("a"), at(10_000), s(10_000)).unwrap().unwrap();
    assert!(again.series.is_none() && again.name != first.name);
}

#[test]
fn new_events_are_limited_in_their_rate() {
    let mut ledger = Ledger::new(&Tuning::default());
    let taken = |ledger: &mut Ledger, from: u32, now: u64| {
        (from..from + 1_000).filter(|n| ledger.take(note(&n.to_string()), at(0), s(now)).is_ok()).count()
    };
    assert_eq!(taken(&mut ledger, 0, 0), 25);
    assert_eq!(taken(&mut ledger, 1_000, 9), 0);
    assert_eq!(taken(&mut ledger, 2_000, 30), 3);
    assert_eq!(taken(&mut ledger, 3_000, 100_000), 25);
    assert_eq!(ledger.take(note("0"), at(1), s(100_001)).unwrap().unwrap().series.unwrap().count, 2, "no new one");
}

#[test]
fn what_is_remembered_is_bounded() {
    let tuning = Tuning { known: 10, burst: 1_000, ..Tuning::default() };
    let mut ledger = Ledger::new(&tuning);
    let taken = (0..100).filter(|n| ledger.take(note(&n.to_string()), at(0), s(0)).is_ok()).count();
    assert_eq!(taken, 10);
    ledger.forget(&note("3"));
    assert!(ledger.take(note("3"), at(1), s(1)).unwrap().unwrap().series.is_none(), "it could not be created");
    ledger.due(s(400));
    assert!(ledger.take(note("99"), at(400), s(400)).is_ok());
}

#[test]
fn nowhere_takes_everything() {
    let recorder = Recorder::nowhere();
    (0..5_000).for_each(|_| recorder.record(Event::starting(&node(), "ipvs")));
}
