//! The Kubernetes source against a scripted API server. Rows P1 to P13 are of the scenario catalogue, section P: where
//! it speaks of handlers, this design has one receiver of batches, so "handler sees" reads "batch says".

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api_server;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api_server::{ApiServer, Fault, Protobuf, Verb};
use serde_json::{Value, json};
use weir::net::ObjectName;
use weir::source::Updates;
use weir::source::kube::{Config, Status, Tuning, connect, start};
use weir::state::{Fact, FactKey, Kind, Update};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must happen.
const QUIET: Duration = Duration::from_millis(150);

const SERVICES: &str = "services";
const SLICES: &str = "endpointslices";
const NODES: &str = "nodes";
const CIDRS: &str = "servicecidrs";

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn quick() -> Tuning {
    Tuning {
        backoff_min: ms(10),
        backoff_max: ms(40),
        absent_api: ms(50),
        response: ms(400),
        watch_jitter: ms(0),
        short_watch: ms(5),
        steady: ms(60),
        ..Tuning::default()
    }
}

/// A server that speaks protobuf, or does not.
async fn server(protobuf: Protobuf) -> ApiServer {
    let server = ApiServer::start().await;
    server.set_protobuf(protobuf);
    server
}

/// Each test with a server that speaks protobuf, and with one that speaks JSON alone.
macro_rules! with_both_encodings {
    ($($name:ident),* $(,)?) => {
        with_both_encodings!(protobuf: Protobuf::Spoken, $($name),*);
        with_both_encodings!(json: Protobuf::Unknown, $($name),*);
    };
    ($module:ident: $protobuf:expr, $($name:ident),*) => {
        mod $module {
            use super::Protobuf;
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($protobuf).await;
                }
            )*
        }
    };
}

with_both_encodings!(
    p1_p2_services_come_in_order,
    p3_p4_p5_two_followers_see_the_same,
    p6_service_cidrs_add_up,
    p7_each_kind_syncs_exactly_once,
    p8_to_p12_node_topology,
    p13_unexpected_objects_are_logged_and_ignored,
    the_selectors_are_the_servers,
    an_object_that_leaves_the_selection_is_deleted,
    without_streaming_lists_pages_are_read,
    other_refusals_fall_back_too,
    a_list_whose_token_expires_starts_over,
    a_page_that_is_too_long_is_asked_for_in_smaller_ones,
    a_missing_end_of_the_initial_events_falls_back,
    a_version_that_is_too_old_is_listed_anew_in_one_batch,
    history_that_is_compacted_while_away_is_listed_anew,
    an_outage_removes_nothing_and_the_differences_follow,
    the_source_waits_for_a_server_that_is_not_there_yet,
    server_errors_are_survived,
    a_watch_that_only_fails_is_given_up_for_a_list,
    retry_after_is_honoured,
    denied_access_is_logged_once_and_names_what_rbac_lacks,
    a_server_without_service_cidrs_is_fine,
    hang_ups_in_the_middle_of_an_event_lose_nothing,
    hang_ups_in_the_middle_of_a_page_lose_nothing,
    garbage_is_survived,
    a_line_without_end_is_bounded,
    silence_is_noticed,
    a_watch_that_outlives_its_time_is_abandoned,
    watches_are_renewed_from_the_last_bookmark,
    watches_that_end_at_once_are_not_spun_on,
    slow_answers_are_read_as_they_come,
    a_burst_is_told_in_few_batches,
    a_burst_in_one_piece_is_one_batch,
    a_slow_receiver_loses_nothing,
    dropping_the_receiver_ends_the_tasks,
);

/// A source with what it has told.
struct Follower {
    updates: Updates,
    status: Arc<Status>,
    /// What the updates add up to.
    view: BTreeMap<FactKey, Fact>,
    /// Updates since the last `take`.
    told: Vec<Update>,
    batches: usize,
}

impl Follower {
    async fn start(server: &ApiServer) -> Follower {
        Follower::start_with(server, quick()).await
    }

    async fn start_with(server: &ApiServer, tuning: Tuning) -> Follower {
        let config = Config { master: Some(server.url()), tuning, ..Config::new("node-1") };
        let client = connect(&config).await.expect("a client");
        let (updates, status) = start(&client, &config);
        Follower { updates, status, view: BTreeMap::new(), told: Vec::new(), batches: 0 }
    }

    /// A follower whose four kinds have synced.
    async fn synced(server: &ApiServer) -> Follower {
        let mut follower = Follower::start(server).await;
        follower.sync().await;
        follower
    }

    async fn sync(&mut self) {
        let status = self.status.clone();
        self.until("all kinds are synced", |_| Kind::ALL.iter().all(|kind| status.of(*kind).synced)).await;
        while self.told.len() < 4 {
            self.receive().await;
        }
    }

    async fn receive(&mut self) {
        let batch = tokio::time::timeout(PATIENCE, self.updates.recv()).await;
        self.apply(batch.expect("updates in time").expect("a living source"));
    }

    fn apply(&mut self, batch: Vec<Update>) {
        self.batches += 1;
        for update in batch {
            match update.clone() {
                Update::Upsert(fact) => {
                    self.view.insert(fact.key(), fact);
                }
                Update::Delete(key) => {
                    self.view.remove(&key);
                }
                Update::Replace { kind, facts } => {
                    self.view.retain(|key, _| key.kind != kind);
                    self.view.extend(facts.into_iter().map(|fact| (fact.key(), fact)));
                }
            }
            self.told.push(update);
        }
    }

    /// Receives until the view is as wanted.
    async fn until(&mut self, what: &str, done: impl Fn(&BTreeMap<FactKey, Fact>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.view) {
            match tokio::time::timeout(ms(50), self.updates.recv()).await {
                Ok(batch) => self.apply(batch.expect("a living source")),
                Err(_) => assert!(Instant::now() < deadline, "waiting until {what}; told {:?}", self.told),
            }
        }
    }

    async fn until_name(&mut self, name: &str) {
        self.until(&format!("{name} is there"), |view| view.keys().any(|key| &*key.name.name == name)).await;
    }

    /// Nothing is told for a while.
    async fn stays_quiet(&mut self) {
        if let Ok(batch) = tokio::time::timeout(QUIET, self.updates.recv()).await {
            panic!("told {batch:?} where nothing was expected");
        }
    }

    /// What was told since the last call.
    fn take(&mut self) -> Vec<Update> {
        std::mem::take(&mut self.told)
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        self.view.keys().filter(|key| key.kind == kind).map(|key| key.name.to_string()).collect()
    }
}

/// Waits for something that is not told by updates.
async fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waiting until {what}");
        tokio::time::sleep(ms(5)).await;
    }
}

fn service(name: &str, ip: &str) -> Value {
    json!({
        "kind": "Service",
        "metadata": {"namespace": "ns", "name": name},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"], "ports": [{"port": 80, "protocol": "TCP"}]},
    })
}

fn slice(name: &str, service: &str, ips: &[&str]) -> Value {
    json!({
        "kind": "EndpointSlice",
        "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
        "endpoints": ips.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect::<Vec<_>>(),
    })
}

fn node(name: &str, labels: Value) -> Value {
    json!({"kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}, "status": {}})
}

fn cidr(name: &str, cidrs: &[&str]) -> Value {
    json!({"kind": "ServiceCIDR", "metadata": {"name": name}, "spec": {"cidrs": cidrs}})
}

fn key(kind: Kind, namespace: &str, name: &str) -> FactKey {
    FactKey { kind, name: ObjectName::new(namespace, name) }
}

fn text(updates: &[Update]) -> Vec<String> {
    updates
        .iter()
        .map(|update| match update {
            Update::Upsert(fact) => format!("+{}", fact.key().name.name),
            Update::Delete(key) => format!("-{}", key.name.name),
            Update::Replace { kind, facts } => format!("={kind:?}{}", facts.len()),
        })
        .collect()
}

async fn p1_p2_services_come_in_order(protobuf: Protobuf) {
    let server = server(protobuf).await;
    let mut follower = Follower::synced(&server).await;
    follower.take();
    server.put(service("a", "10.0.0.1"));
    follower.until_name("a").await;
    assert_eq!(text(&follower.take()), ["+a"]);
    server.put(service("b", "10.0.0.2"));
    server.delete("Service", "ns", "a");
    server.put(service("b", "10.0.0.3"));
    server.put(service("c", "10.0.0.4"));
    follower.until_name("c").await;
    assert_eq!(text(&follower.take()), ["+b", "-a", "+b", "+c"]);
    assert_eq!(follower.names(Kind::Service), ["ns/b", "ns/c"]);
}

async fn p3_p4_p5_two_followers_see_the_same(protobuf: Protobuf) {
    let server = server(protobuf).await;
    let mut first = Follower::synced(&server).await;
    let mut second = Follower::synced(&server).await;
    server.put(service("a", "10.0.0.1"));
    server.put(slice("a-1", "a", &["10.1.0.1"]));
    server.put(slice("a-2", "a", &["10.1.0.2"]));
    server.delete("EndpointSlice", "ns", "a-1");
    server.put(slice("a-2", "a", &["10.1.0.3"]));
    server.put(node("node-1", json!({"topology.kubernetes.io/zone": "z"})));
    server.put(node("node-2", json!({})));
    for follower in [&mut first, &mut second] {
        follower
            .until("all is there", |view| {
                let slice = view.get(&key(Kind::EndpointSlice, "ns", "a-2"));
                let endpoint = slice.and_then(|fact| match fact {
                    Fact::EndpointSlice(slice) => slice.endpoints.first(),
                    _ => None,
                });
                view.len() == 3 && endpoint.is_some_and(|endpoint| endpoint.ip.to_string() == "10.1.0.3")
            })
            .await;
        assert_eq!(follower.names(Kind::Node), ["/node-1"], "only our own node is followed");
    }
    assert_eq!(first.view, second.view);
    server.delete("Node", "", "node-1");
    for follower in [&mut first, &mut second] {
        follower.until("the node is gone", |view| view.len() == 2).await;
    }
}

async fn p6_service_cidrs_add_up(protobuf: Protobuf) {
    let server = server(protobuf).await;
    let mut follower = Follower::synced(&server).await;
    let cidrs = |view: &BTreeMap<FactKey, Fact>| -> Vec<String> {
        let all = view.values().filter_map(|fact| match fact {
            Fact::ServiceCidr(cidr) => Some(cidr.cidrs.iter().map(ToString::to_string)),
            _ => None,
        });
        all.flatten().collect()
    };
    server.put(cidr("a", &["10.0.0.0/16"]));
    follower.until("a", |view| cidrs(view) == ["10.0.0.0/16"]).await;
    server.put(cidr("b", &["10.1.0.0/16", "fd00::/108"]));
    follower.until("b", |view| cidrs(view) == ["10.0.0.0/16", "10.1.0.0/16", "fd00::/108"]).await;
    server.put(cidr("a", &["10.2.0.0/16"]));
    follower.until("a changed", |view| cidrs(view) == ["10.2.0.0/16", "10.1.0.0/16", "fd00::/108"]).await;
    server.delete("ServiceCIDR", "", "b");
    follower.until("b is gone", |view| cidrs(view) == ["10.2.0.0/16"]).await;
}

async fn p7_each_kind_syncs_exactly_once(protobuf: Protobuf) {
    let server = server(protobuf).await;
    for i in 0..1200 {
        server.put(service(&format!("s{i}"), "10.0.0.1"));
        server.put(slice(&format!("s{i}-x"), &format!("s{i}"), &["10.1.0.1"]));
    }
    let mut follower = Follower::synced(&server).await;
    follower.stays_quiet().await;
    let mut told = text(&follower.take());
    told.sort();
    assert_eq!(told, ["=EndpointSlice1200", "=Node0", "=Service1200", "=ServiceCidr0"]);
    for kind in Kind::ALL {
        let status = follower.status.of(kind);
        assert!(status.connected && status.synced && status.streaming_list && status.since.is_some());
        assert_eq!((status.relists, status.failures, status.last_error), (0, 0, None));
        assert_eq!(status.resource_version.as_deref(), Some("2401"));
    }
}

async fn p8_to_p12_node_topology(protobuf: Protobuf) {
    let server = server(protobuf).await;
    let mut follower = Follower::synced(&server).await;
    let zone = |fact: Option<&Fact>| match fact {
        Some(Fact::Node(node)) => node.zone.as_deref().map(str::to_owned),
        _ => panic!("no node"),
    };
    let ours = key(Kind::Node, "", "node-1");
    // P12: a node without a zone.
    server.put(node("node-1", json!({})));
    follower.until_name("node-1").await;
    assert_eq!(zone(follower.view.get(&ours)), None);
    let without = follower.view.get(&ours).cloned();
    // P8: a zone. P10: another one.
    for name in ["z1", "z2"] {
        server.put(node("node-1", json!({"topology.kubernetes.io/zone": name})));
        follower.receive().await;
        assert_eq!(zone(follower.view.get(&ours)).as_deref(), Some(name));
    }
    // P9: an unrelated label leaves the fact as it is; the state drops equal facts.
    let before = follower.view.get(&ours).cloned();
    server.put(node("node-1", json!({"topology.kubernetes.io/zone": "z2", "other": "x"})));
    follower.receive().await;
    assert_eq!(follower.view.get(&ours).cloned(), before);
    // P11: the zone is gone.
    server.put(node("node-1", json!({"other": "x"})));
    follower.receive().await;
    assert_eq!(follower.view.get(&ours).cloned(), without);
}

async fn p13_unexpected_objects_are_logged_and_ignored(protobuf: Protobuf) {
    let log = Log::capture();
    let server = server(protobuf).await;
    server.put(service("a", "10.0.0.1"));
    let mut follower = Follower::synced(&server).await;
    follower.take();
    let pod = json!({"type": "MODIFIED", "object": {"kind": "Pod", "metadata": {"namespace": "ns", "name": "a"}}});
    server.inject("Service", &pod);
    server.inject("Service", &pod);
    let strange = json!({"type": "RENAMED", "object": service("a", "10.0.0.9")});
    server.inject("Service", &strange);
    let mut bad = service("bad", "10.0.0.1");
    bad["spec"]["ports"][0]["port"] = json!("eighty");
    server.put(bad.clone());
    server.put(service("b", "10.0.0.2"));
    follower.until_name("b").await;
    assert_eq!(text(&follower.take()), ["+b"]);
    assert_eq!(follower.names(Kind::Service), ["ns/a", "ns/b"]);
    assert_eq!(follower.status.problems(), 3);
    assert_eq!(follower.status.of(Kind::Service).failures, 0);
    assert_eq!(log.count("left out part of an object"), 3, "{:?}", log.lines());
    assert_eq!(log.count("Service ns/bad"), 1, "{:?}", log.lines());
    // A relist finds the same bad object again; that is no news.
    relist(&server, &mut follower).await;
    assert_eq!(follower.status.problems(), 3);
    // It is deleted where no event tells, and comes back: that is.
    server.stop().await;
    server.delete("Service", "ns", "bad");
    relist(&server, &mut follower).await;
    server.put(bad);
    server.put(service("c", "10.0.0.3"));
    follower.until_name("c").await;
    assert_eq!(follower.status.problems(), 4);
}

/// Makes the version of the services too old, so that they are listed anew.
async fn relist(server: &ApiServer, follower: &mut Follower) {
    let before = follower.status.of(Kind::Service).relists;
    server.script(Verb::Watch, SERVICES, 1, Fault::Status { code: 410, retry_after: None });
    server.cut().await;
    let status = follower.status.clone();
    follower.until("services are listed anew", |_| status.of(Kind::Service).relists > before).await;
}

async fn the_selectors_are_the_servers(protobuf: Protobuf) {
    let server = server(protobuf).await;
    server.put(service("a", "10.0.0.1"));
    server.put(service("headless", "None"));
    let mut other = service("other", "10.0.0.2");
    other["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": ""});
    server.put(other);
    let mut headless = slice("headless-1", "headless", &["10.1.0.1"]);
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("");
    server.put(headless);
    server.put(slice("a-1", "a", &["10.1.0.2"]));
    let follower = Follower::synced(&server).await;
    assert_eq!(follower.names(Kind::Service), ["ns/a"]);
    assert_eq!(follower.names(Kind::EndpointSlice), ["ns/a-1"]);
    for seen in server.requests() {
        let selector = match seen.resource.as_str() {
            SERVICES => "labelSelector=!service.kubernetes.io/service-proxy-name&fieldSelector=spec.clusterIP!=None&",
            SLICES => "labelSelector=!service.kubernetes.io/headless&",
            NODES => "?fieldSelector=metadata.name=node-1&",
            _ => "?sendInitialEvents=true",
        };
        assert!(seen.url.contains(selector), "{} should contain {selector}", seen.url);
    }
}

/// Contract 2.1: the label's value does not matter, and taking it away brings the service back.
async fn an_object_that_leaves_the_selection_is_deleted(protobuf: Protobuf) {
    let server = server(protobuf).await;
    server.put(service("a", "10.0.0.1"));
    server.put(slice("a-1", "a", &["10.1.0.1"]));
    let mut follower = Follower::synced(&server).await;
    follower.take();
    let mut labelled = service("a", "10.0.0.1");
    labelled["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": ""});
    server.put(labelled);
    follower.receive().await;
    server.put(service("a", "10.0.0.1"));
    follower.receive().await;
    assert_eq!(text(&follower.take()), ["-a", "+a"]);
    // A slice that names no service any more is still selected, but means nothing.
    let mut nameless = slice("a-1", "a", &["10.1.0.1"]);
    nameless["metadata"]["labels"] = json!({});
    server.put(nameless);
    follower.receive().await;
    assert_eq!(text(&follower.take()), ["-a-1"]);
}

async fn without_streaming_lists_pages_are_read(protobuf: Protobuf) {
    let log = Log::capture();
    let server = server(protobuf).await;
    for i in 0..1201 {
        server.put(service(&format!("s{i}"), "10.0.0.1"));
    }
    server.script(Verb::StreamingList, "*", u32::MAX, Fault::Status { code: 422, retry_after: None });
    let mut follower = Follower::synced(&server).await;
    let mut told = text(&follower.take());
    told.sort();
    assert_eq!(told, ["=EndpointSlice0", "=Node0", "=Service1201", "=ServiceCidr0"]);
    assert_eq!(server.count(Verb::StreamingList, SERVICES), 1, "it is not asked for again");
    assert_eq!((server.count(Verb::List, SERVICES), server.count(Verb::Continue, SERVICES)), (1, 2));
    assert!(server.requests().iter().any(|seen| seen.url.contains("limit=500")));
    assert_eq!(log.count("no streaming lists"), 4, "{:?}", log.lines());
    server.put(service("late", "10.0.0.1"));
    follower.until_name("late").await;
    relist(&server, &mut follower).await;
    assert_eq!(server.count(Verb::StreamingList, SERVICES), 1, "it is remembered");
    assert_eq!(follower.names(Kind::Service).len(), 1202);
}

async fn other_refusals_fall_back_too(protobuf: Protobuf) {
    for code in [400, 405, 410, 404] {
        let server = server(protobuf).await;
        server.put(service("a", "10.0.0.1"));
        server.script(Verb::StreamingList, SERVICES, u32::MAX, Fault::Status { code, retry_after: None });
        let follower = Follower::synced(&server).await;
        assert_eq!(follower.names(Kind::Service), ["ns/a"], "{code}");
        assert!(!follower.status.of(Kind::Service).streaming_list);
    }
}

async fn a_list_whose_token_expires_starts_over(protobuf: Protobuf) {
    let server = server(protobuf).await;
    for i in 0..25 {
        server.put(service(&format!("s{i}"), "10.0.0.1"));
    }
    server.script(Verb::StreamingList, "*", u32::MAX, Fault::Status { code: 400, retry_after: None });
    server.script(Verb::Continue, SERVICES, 1, Fault::Status { code: 410, retry_after: None });
    let mut follower = Follower::start_with(&server, Tuning { page: 10, ..quick() }).await;
    follower.sync().await;
    assert_eq!(follower.names(Kind::Service).len(), 25);
    assert_eq!((server.count(Verb::List, SERVICES), server.count(Verb::Continue, SERVICES)), (2, 3));
    assert_eq!(text(&follower.take()).iter().filter(|told| told.starts_with("=Service25")).count(), 1);
}

async fn a_page_that_is_too_long_is_asked_for_in_smaller_ones(protobuf: Protobuf) {
    let server = server(protobuf).await;
    for i in 0..40 {
        server.put(service(&format!("s{i}"), "10.0.0.1"));
    }
    server.script(Verb::StreamingList, "*", u32::MAX, Fault::Status { code: 400, retry_after: None });
    // 40 services are too long, 7 are not.
    let page_max = if protobuf == Protobuf::Spoken { 2500 } else { 4000 };
    let mut follower = Follower::start_with(&server, Tuning { page_max, ..quick() }).await;
    follower.sync().await;
    assert_eq!(follower.names(Kind::Service).len(), 40);
    assert!(server.requests().iter().any(|seen| seen.url.contains("limit=7")), "{:?}", server.requests());
}

async fn a_missing_end_of_the_initial_events_falls_back(protobuf: Protobuf) {
    let log = Log::capture();
    let server = server(protobuf).await;
    server.put(service("a", "10.0.0.1"));
    server.script(Verb::StreamingList, SERVICES, 1, Fault::NoInitialEventsEnd);
    let mut follower = Follower::start_with(&server, Tuning { initial_events: ms(300), ..quick() }).await;
    follower.sync().await;
    assert_eq!(follower.names(Kind::Service), ["ns/a"]);
    assert_eq!(server.count(Verb::List, SERVICES), 1);
    assert_eq!(log.count("initial events"), 1, "{:?}", log.lines());
}

async fn a_version_that_is_too_old_is_listed_anew_in_one_batch(protobuf: Protobuf) {
    for fault in [Fault::Status { code: 410, retry_after: None }, Fault::ErrorEvent { code: 410 }] {
        let server = server(protobuf).await;
        for name in ["a", "b", "c"] {
            server.put(service(name, "10.0.0.1"));
        }
        let mut follower = Follower::synced(&server).await;
        follower.take();
        server.stop().await;
        server.delete("Service", "ns", "a");
        server.put(service("d", "10.0.0.1"));
        server.script(Verb::Watch, SERVICES, 1, fault.clone());
        server.restart().await;
        follower.until_name("d").await;
        follower.stays_quiet().await;
        assert_eq!(text(&follower.take()), ["=Service3"], "{fault:?}");
        assert_eq!(follower.names(Kind::Service), ["ns/b", "ns/c", "ns/d"]);
        assert_eq!(follower.status.of(Kind::Service).relists, 1);
    }
}

async fn history_that_is_compacted_while_away_is_listed_anew(protobuf: Protobuf) {
    let server = server(protobuf).await;
    server.put(service("a", "10.0.0.1"));
    let mut follower = Follower::synced(&server).await;
    server.stop().await;
    server.delete("Service", "ns", "a");
    server.put(service("b", "10.0.0.1"));
    server.compact();
    server.restart().await;
    follower.until_name("b").await;
    assert_eq!(follower.names(Kind::Service), ["ns/b"]);
}

/// Design: while the API server is away, nothing changes; when it is back, what differs comes and nothing else.
async fn an_outage_removes_nothing_and_the_differences_follow(protobuf: Protobuf) {
    let log = Log::capture();
    let server = server(protobuf).await;
    for name in ["a", "b", "c"] {
        server.put(service(name, "10.0.0.1"));
    }
    server.put(slice("a-1", "a", &["10.1.0.1"]));
    let mut follower = Follower::synced(&server).await;
    follower.take();
    server.stop().await;
    let status = follower.status.clone();
    eventually("all four are lost", || Kind::ALL.iter().all(|kind| status.of(*kind).failures > 3)).await;
    assert!(Kind::ALL.iter().all(|kind| !status.of(*kind).connected && status.of(*kind).last_error.is_some()));
    follower.stays_quiet().await;
    server.delete("Service", "ns", "b");
    server.put(service("d", "10.0.0.4"));
    server.put(slice("a-1", "a", &["10.1.0.2"]));
    server.restart().await;
    follower
        .until("the differences came", |view| view.len() == 4 && view.contains_key(&key(Kind::Service, "ns", "d")))
        .await;
    eventually("all four are back", || Kind::ALL.iter().all(|kind| status.of(*kind).connected)).await;
    while let Ok(batch) = tokio::time::timeout(QUIET, follower.updates.recv()).await {
        follower.apply(batch.expect("a living source"));
    }
    let mut told = text(&follower.take());
    told.sort();
    assert_eq!(told, ["+a-1", "+d", "-b"]);
    assert_eq!(status.of(Kind::Service).relists, 0);
    // One line when the connection broke, one for each other reason, one when it was back; not one for each try.
    let lines = log.lines();
    let services: Vec<&String> = lines.iter().filter(|line| line.contains("kind=Service ")).collect();
    assert!(services.len() <= 4, "{services:?}");
    assert_eq!(services.iter().filter(|line| line.contains("cannot reach the API server")).count(), 1, "{services:?}");
    assert_eq!(services.iter().filter(|line| line.contains("recovered")).count(), 1, "{services:?}");
}

async fn the_source_waits_for_a_server_that_is_not_there_yet(protobuf: Protobuf) {
    let server = server(protobuf).await;
    server.put(service("a", "10.0.0.1"));
    server.stop().await;
    let mut follower = Follower::start(&server).await;
    follower.stays_quiet().await;
    server.restart().await;
    follower.sync().await;
    assert_eq!(follower.names(Kind::Service), ["ns/a"]);
}

async fn server_errors_are_survived(protobuf: Protobuf) {
    for code in [500, 502, 503, 429] {
        let server = server(protobuf).await;
        server.put(service("a", "10.0.0.1"));
        server.script(Verb::StreamingList, "*", 8, Fault::Status { code, retry_after: None });
        let mut follower = Follower::synced(&server).await;
        assert!(follower.status.of(Kind::Service).streaming_list, "{code} is no refusal of streaming lists");
        server.script(Verb::Watch, SERVICES, 3, Fault::Status { code, retry_after: None });
        server.cut().await;
        server.put(service("b", "10.0.0.1"));
        follower.until_name("b").await;
        assert_eq!(follower.status.of(Kind::Service).relists, 0, "{code}: the watch went on");
    }
}

async fn a_watch_that_only_fails_is_given_up_for_a_list(protobuf: Protobuf) {
    let server = server(protobuf).await;
    server.put(service("a", "10.0.0.1"));
    let mut follower = Follower::synced(&server).await;
    server.script(Verb::Watch, SERVICES, u32::MAX, Fault::Status { code: 500, retry_after: None });
    server.cut().await;
    server.put(service("b", "10.0.0.1"));
    follower.until_name("b").await;
    assert_eq!(server.count(Verb::Watch, SERVICES), 5);
    assert_eq!(follower.status.of(Kind::Service).relists, 1);
}

async fn retry_after_is_honoured(protobuf: Protobuf) {
    let server = server(protobuf).await;
    server.script(Verb::StreamingList, SERVICES, 1, Fault::Status { code: 429, retry_after: Some(1) });
    let began = Instant::now();
    let _follower = Follower::synced(&server).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(server.count(Verb::StreamingList, SERVICES), 2);
}

async fn denied_access_is_logged_once_and_names_what_rbac_lacks(protobuf: Protobuf) {
    let log = Log::capture();
    let server = server(protobuf).await;
    server.put(slice("a-1", "a", &["10.1.0.1"]));
    server.script(Verb::Any, SLICES, 6, Fault::Status { code: 403, retry_after: None });
    let mut follower = Follower::synced(&server).await;
    assert_eq!(follower.names(Kind::EndpointSlice), ["ns/a-1"]);
    assert_eq!(server.count(Verb::List, SLICES), 0, "a denial is no refusal of streaming lists");
    assert_eq!(log.count("allow list and watch on endpointslices.discovery.k8s.io (RBAC)"), 1, "{:?}", log.lines());
    assert_eq!(log.count("ERROR"), 1, "{:?}", log.lines());
    // It is lost again later, for another reason: told again, once.
    let status = follower.status.clone();
    eventually("the recovery is told", || log.count("recovered") == 1).await;
    server.script(Verb::Watch, SLICES, 4, Fault::Status { code: 401, retry_after: None });
    server.cut().await;
    server.put(slice("a-2", "a", &["10.1.0.2"]));
    follower.until_name("a-2").await;
    assert_eq!(log.count("ERROR"), 2, "{:?}", log.lines());
    assert_eq!(status.of(Kind::EndpointSlice).relists, 0);
}

async fn a_server_without_service_cidrs_is_fine(protobuf: Protobuf) {
    let log = Log::capture();
    let server = server(protobuf).await;
    server.put(cidr("a", &["10.0.0.0/16"]));
    server.script(Verb::Any, CIDRS, 3, Fault::Status { code: 404, retry_after: None });
    let mut follower = Follower::synced(&server).await;
    assert_eq!(follower.status.of(Kind::ServiceCidr).failures, 0);
    assert!(follower.status.of(Kind::ServiceCidr).connected);
    // It is asked for now and then, and appears when the server has it.
    follower.until_name("a").await;
    let told = text(&follower.take());
    assert_eq!(
        told.iter().filter(|told| told.starts_with("=ServiceCidr")).collect::<Vec<_>>(),
        ["=ServiceCidr0", "=ServiceCidr1"]
    );
    assert_eq!(log.count("has no such API"), 1, "{:?}", log.lines());
    assert_eq!(server.count(Verb::StreamingList, CIDRS), 4);
}

async fn hang_ups_in_the_middle_of_an_event_lose_nothing(protobuf: Protobuf) {
    let server = server(protobuf).await;
    for i in 0..50 {
        server.put(service(&format!("s{i}"), "10.0.0.1"));
    }
    for bytes in [0, 1, 300, 1000, 3000] {
        server.script(Verb::StreamingList, SERVICES, 1, Fault::HangUpAfter(bytes));
    }
    let mut follower = Follower::synced(&server).await;
    assert_eq!(follower.names(Kind::Service).len(), 50);
    assert_eq!(text(&follower.take()).iter().filter(|told| told.starts_with("=Service5")).count(), 1);
    assert_eq!(server.count(Verb::StreamingList, SERVICES), 6);
    // The same in a watch: it goes on from the last whole event.
    server.stop().await;
    for i in 0..50 {
        server.put(service(&format!("t{i}"), "10.0.0.1"));
    }
    for bytes in [0, 1, 300, 1000, 3000] {
        server.script(Verb::Watch, SERVICES, 1, Fault::HangUpAfter(bytes));
    }
    server.restart().await;
    follower.until("all are there", |view| view.len() == 100).await;
    let told = text(&follower.take());
    assert_eq!(told.len(), 50, "each event once: {told:?}");
    assert_eq!(follower.status.of(Kind::Service).relists, 0);
}

async fn hang_ups_in_the_middle_of_a_page_lose_nothing(protobuf: Protobuf) {
    let server = server(protobuf).await;
    for i in 0..30 {
        server.put(service(&format!("s{i}"), "10.0.0.1"));
    }
    server.script(Verb::StreamingList, "*", u32::MAX, Fault::Status { code: 422, retry_after: None });
    server.script(Verb::List, SERVICES, 1, Fault::HangUpAfter(500));
    server.script(Verb::Continue, SERVICES, 1, Fault::HangUpAfter(500));
    server.script(Verb::Continue, SERVICES, 1, Fault::Text("{\"kind\":".to_owned()));
    server.script(Verb::Continue, SERVICES, 1, Fault::Stall);
    let mut follower = Follower::start_with(&server, Tuning { page: 10, ..quick() }).await;
    follower.sync().await;
    assert_eq!(follower.names(Kind::Service).len(), 30);
}

async fn garbage_is_survived(protobuf: Protobuf) {
    let garbage: [&[u8]; 6] = [
        b"<html>a proxy in between</html>\n",
        b"\xff\xfe\x00garbage\n",
        b"{\"type\":\"ADDED\"}\n",
        b"{\"type\":\"ADDED\",\"object\":{}}\n",
        b"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":7}}}\n",
        b"[[[[[[\n",
    ];
    for bytes in garbage {
        let server = server(protobuf).await;
        server.put(service("a", "10.0.0.1"));
        server.script(Verb::StreamingList, SERVICES, 1, Fault::Garbage(bytes.to_vec()));
        let mut follower = Follower::synced(&server).await;
        assert_eq!(follower.names(Kind::Service), ["ns/a"]);
        server.script(Verb::Watch, SERVICES, 1, Fault::Garbage(bytes.to_vec()));
        server.cut().await;
        server.put(service("b", "10.0.0.1"));
        follower.until_name("b").await;
        assert_eq!(follower.names(Kind::Service), ["ns/a", "ns/b"]);
    }
}

async fn a_line_without_end_is_bounded(protobuf: Protobuf) {
    let server = server(protobuf).await;
    server.put(service("a", "10.0.0.1"));
    server.script(Verb::StreamingList, SERVICES, 1, Fault::Garbage(vec![b'x'; 1 << 20]));
    let mut follower = Follower::start_with(&server, Tuning { line_max: 4096, ..quick() }).await;
    follower.sync().await;
    assert_eq!(follower.names(Kind::Service), ["ns/a"]);
    assert!(!follower.status.of(Kind::Service).streaming_list);
    server.script(Verb::Watch, SERVICES, 1, Fault::Garbage(vec![b'x'; 1 << 20]));
    server.cut().await;
    server.put(service("b", "10.0.0.1"));
    follower.until_name("b").await;
    assert_eq!(follower.status.of(Kind::Service).relists, 1);
}

async fn silence_is_noticed(protobuf: Protobuf) {
    let server = server(protobuf).await;
    server.put(service("a", "10.0.0.1"));
    server.script(Verb::StreamingList, SERVICES, 1, Fault::NoAnswer);
    let tuning = Tuning { idle: ms(300), ..quick() };
    let mut follower = Follower::start_with(&server, tuning).await;
    follower.sync().await;
    assert!(follower.status.of(Kind::Service).last_error.unwrap().contains("went silent"));
    // A watch that is answered and then says nothing.
    server.script(Verb::Watch, SERVICES, 1, Fault::Stall);
    server.cut().await;
    server.put(service("b", "10.0.0.1"));
    follower.until_name("b").await;
    assert_eq!(follower.status.of(Kind::Service).relists, 0);
}

async fn a_watch_that_outlives_its_time_is_abandoned(protobuf: Protobuf) {
    let server = server(protobuf).await;
    let tuning = Tuning { initial_events: ms(300), watch: ms(1000), watch_grace: ms(100), ..quick() };
    server.script(Verb::StreamingList, SERVICES, 1, Fault::NoInitialEventsEnd);
    server.script(Verb::Watch, SERVICES, 1, Fault::Stall);
    let mut follower = Follower::start_with(&server, tuning).await;
    follower.sync().await;
    server.put(service("a", "10.0.0.1"));
    follower.until_name("a").await;
    let error = follower.status.of(Kind::Service).last_error.unwrap();
    assert!(error.contains("a watch did not end in its time"), "{error}");
}

/// The end of a watch by its time is normal: no failure, no list, and bookmarks move the version on.
async fn watches_are_renewed_from_the_last_bookmark(protobuf: Protobuf) {
    let server = server(protobuf).await;
    let tuning = Tuning { watch: ms(1000), ..quick() };
    let mut follower = Follower::start_with(&server, tuning).await;
    follower.sync().await;
    let version = (0..20).map(|_| server.tick()).last().unwrap();
    server.put(cidr("other-kind", &[]));
    let renewed = format!("resourceVersion={}", version + 1);
    eventually("the watch is renewed", || {
        server.requests().iter().any(|seen| seen.resource == SERVICES && seen.url.contains(&renewed))
    })
    .await;
    assert_eq!(follower.status.of(Kind::Service).failures, 0);
    assert_eq!(follower.status.of(Kind::Service).relists, 0);
    assert!(server.requests().iter().all(|seen| seen.url.contains("timeoutSeconds=1")));
    server.put(service("a", "10.0.0.1"));
    follower.until_name("a").await;
}

async fn watches_that_end_at_once_are_not_spun_on(protobuf: Protobuf) {
    let server = server(protobuf).await;
    let tuning = Tuning { backoff_min: ms(100), backoff_max: ms(100), ..quick() };
    let mut follower = Follower::start_with(&server, tuning).await;
    follower.sync().await;
    server.script(Verb::Watch, SERVICES, u32::MAX, Fault::EndAtOnce);
    server.cut().await;
    tokio::time::sleep(ms(500)).await;
    let count = server.count(Verb::Watch, SERVICES);
    assert!((1..=10).contains(&count), "{count} watches in half a second");
    server.clear_script();
    server.put(service("a", "10.0.0.1"));
    follower.until_name("a").await;
}

async fn slow_answers_are_read_as_they_come(protobuf: Protobuf) {
    let server = server(protobuf).await;
    for i in 0..10 {
        server.put(service(&format!("s{i}"), "10.0.0.1"));
    }
    server.script(Verb::StreamingList, SERVICES, 1, Fault::Slow { size: 100, every: ms(1) });
    let follower = Follower::synced(&server).await;
    assert_eq!(follower.names(Kind::Service).len(), 10);
    assert_eq!(follower.status.of(Kind::Service).failures, 0);
}

async fn a_burst_is_told_in_few_batches(protobuf: Protobuf) {
    let server = server(protobuf).await;
    let mut follower = Follower::synced(&server).await;
    follower.batches = 0;
    server.stop().await;
    for i in 0..5000 {
        server.put(slice(&format!("x{i}"), "a", &["10.1.0.1"]));
    }
    server.restart().await;
    follower.until("all came", |view| view.len() == 5000).await;
    assert!(follower.batches <= 100, "{} batches", follower.batches);
}

/// A receiver that is busy slows the source down; nothing is dropped.
async fn a_slow_receiver_loses_nothing(protobuf: Protobuf) {
    let server = server(protobuf).await;
    let mut follower = Follower::synced(&server).await;
    for i in 0..2000 {
        server.put(service(&format!("s{}", i % 700), &format!("10.0.{}.{}", i / 250, i % 250 + 1)));
        if i % 100 == 0 {
            tokio::time::sleep(ms(1)).await;
        }
    }
    follower.until("the last came", |view| {
        let last = view.get(&key(Kind::Service, "ns", &format!("s{}", 1999 % 700)));
        matches!(last, Some(Fact::Service(service)) if service.cluster_ips.first() == Some(&Some("10.0.7.250".parse().unwrap())))
    }).await;
    assert_eq!(follower.names(Kind::Service).len(), 700);
}

async fn dropping_the_receiver_ends_the_tasks(protobuf: Protobuf) {
    let server = server(protobuf).await;
    let Follower { updates, status, .. } = Follower::synced(&server).await;
    assert!(Arc::strong_count(&status) > 1);
    drop(updates);
    eventually("the tasks let go of the status", || Arc::strong_count(&status) == 1).await;
}

/// Frames that no server should send, at the start of an answer and in the middle of a watch.
#[tokio::test]
async fn damaged_frames_are_survived() {
    use api_server::protobuf::{bytes, envelope, event, frame};
    let mut cut_off = Vec::new();
    bytes(&mut cut_off, 1, b"ADDED");
    cut_off.push(0x12);
    let damaged = [
        frame(b""),
        frame(b"\xff\xff\xff"),
        frame(&cut_off),
        event("ADDED", b"{}"),
        event("ADDED", b"k8s\0"),
        event("ADDED", &envelope("v1", "Service", b"\x0a\x7fcut off")),
        // A length that no frame has, and a text where frames should be.
        vec![0xff, 0xff, 0xff, 0xff],
        b"<html>a proxy in between</html>".to_vec(),
    ];
    for bytes in damaged {
        let server = ApiServer::start().await;
        server.put(service("a", "10.0.0.1"));
        server.script(Verb::StreamingList, SERVICES, 1, Fault::Garbage(bytes.clone()));
        let mut follower = Follower::synced(&server).await;
        assert_eq!(follower.names(Kind::Service), ["ns/a"]);
        follower.take();
        server.inject_bytes("Service", &bytes);
        server.put(service("b", "10.0.0.2"));
        follower.until_name("b").await;
        assert_eq!(follower.names(Kind::Service), ["ns/a", "ns/b"]);
        assert!(!text(&follower.take()).iter().any(|told| told.starts_with('-')), "nothing was taken away: {bytes:?}");
    }
}

const PROTOBUF_OR_JSON: &str = "application/vnd.kubernetes.protobuf, application/json";

/// A server that answers 406 is asked for JSON at once, for each kind once, and nobody is troubled by it.
#[tokio::test]
async fn a_refused_protobuf_falls_back_to_json() {
    let log = Log::capture();
    for streaming in [true, false] {
        let server = server(Protobuf::Refused).await;
        server.put(service("a", "10.0.0.1"));
        if !streaming {
            server.script(Verb::StreamingList, "*", u32::MAX, Fault::Status { code: 400, retry_after: None });
        }
        let mut follower = Follower::synced(&server).await;
        assert_eq!(follower.names(Kind::Service), ["ns/a"]);
        server.cut().await;
        server.put(service("b", "10.0.0.2"));
        follower.until_name("b").await;
        let requests = server.requests();
        let services: Vec<&str> =
            requests.iter().filter(|seen| seen.resource == SERVICES).map(|seen| seen.accept.as_str()).collect();
        assert_eq!(services[0], PROTOBUF_OR_JSON);
        assert!(services.len() > 2 && services[1..].iter().all(|accept| *accept == "application/json"), "{services:?}");
        assert_eq!(follower.status.of(Kind::Service).streaming_list, streaming);
    }
    assert_eq!(log.count("no protobuf"), 0, "told at level debug");
    assert_eq!(log.count("refuses"), 4, "only of the streaming lists: {:?}", log.lines());
}

/// Something that damages every protobuf answer: after some, JSON is asked for, and all is there.
#[tokio::test]
async fn protobuf_that_is_never_readable_is_given_up() {
    let server = ApiServer::start().await;
    server.put(service("a", "10.0.0.1"));
    let garbage = api_server::protobuf::frame(b"\xff");
    server.script(Verb::StreamingList, SERVICES, 3, Fault::Garbage(garbage));
    let follower = Follower::synced(&server).await;
    assert_eq!(follower.names(Kind::Service), ["ns/a"]);
    let requests = server.requests();
    let last = requests.iter().rfind(|seen| seen.resource == SERVICES).unwrap();
    assert_eq!(last.accept, "application/json");
    assert!(follower.status.of(Kind::Service).streaming_list);
}

/// What arrives together is told together.
async fn a_burst_in_one_piece_is_one_batch(protobuf: Protobuf) {
    let server = server(protobuf).await;
    let mut follower = Follower::synced(&server).await;
    follower.batches = 0;
    // No await in between: the server sends all of them in one piece.
    for i in 0..200 {
        server.put(slice(&format!("x{i}"), "a", &["10.1.0.1"]));
    }
    follower.until("all came", |view| view.len() == 200).await;
    assert_eq!(follower.batches, 1);
}

/// Lines that weir logs at level info or above while the value lives, on this thread.
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Log {
    fn capture() -> Log {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let lines = lines.clone();
            move || LineWriter(lines.clone())
        };
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("weir=info")
            .with_ansi(false)
            .without_time()
            .with_writer(writer)
            .finish();
        Log { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn count(&self, text: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(text)).count()
    }
}

struct LineWriter(Arc<Mutex<Vec<String>>>);

impl std::io::Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
