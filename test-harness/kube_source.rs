//! The Kubernetes source against a scripted API server. Rows P1 to P13 are of the scenario catalogue, section P: where
//! it speaks of handlers, this design has one receiver of batches, so "handler sees" reads "batch says".

mod api_server;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api_server::{ApiServer, Fault, Verb};
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
        initial_events: ms(300),
        watch_jitter: ms(0),
        short_watch: ms(5),
        steady: ms(60),
        ..Tuning::default()
    }
}

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

#[tokio::test]
async fn p1_p2_services_come_in_order() {
    let server = ApiServer::start().await;
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

#[tokio::test]
async fn p3_p4_p5_two_followers_see_the_same() {
    let server = ApiServer::start().await;
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

#[tokio::test]
async fn p6_service_cidrs_add_up() {
    let server = ApiServer::start().await;
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

#[tokio::test]
async fn p7_each_kind_syncs_exactly_once() {
    let server = ApiServer::start().await;
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

#[tokio::test]
async fn p8_to_p12_node_topology() {
    let server = ApiServer::start().await;
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

#[tokio::test]
async fn p13_unexpected_objects_are_logged_and_ignored() {
    let log = Log::capture();
    let server = ApiServer::start().await;
    server.put(service("a", "10.0.0.1"));
    let mut follower = Follower::synced(&server).await;
    follower.take();
    let pod = json!({"type": "MODIFIED", "object": {"kind": "Pod", "metadata": {"namespace": "ns", "name": "a"}}});
    server.inject("Service", &pod.to_string());
    server.inject("Service", &pod.to_string());
    let strange = json!({"type": "RENAMED", "object": service("a", "10.0.0.9")});
    server.inject("Service", &strange.to_string());
    let mut bad = service("bad", "10.0.0.1");
    bad["spec"]["ports"][0]["port"] = json!("eighty");
    server.put(bad);
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
}

/// Makes the version of the services too old, so that they are listed anew.
async fn relist(server: &ApiServer, follower: &mut Follower) {
    let before = follower.status.of(Kind::Service).relists;
    server.script(Verb::Watch, SERVICES, 1, Fault::Status { code: 410, retry_after: None });
    server.cut().await;
    let status = follower.status.clone();
    follower.until("services are listed anew", |_| status.of(Kind::Service).relists > before).await;
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
