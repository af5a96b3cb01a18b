//! The whole of it: what a scrape tells and how it is written.

mod catalogue;
mod golden;
mod parser;
mod written;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::engine::{Finished, Task};
use crate::model::{EndpointFlags, ModelEndpoint, ServicePort, ServicePortKey};
use crate::net::{Endpoint, Family as IpFamily, ObjectName, PerFamily, Protocol, ServicePortName};
use crate::serve::health::Probe;
use crate::state::TrafficPolicy;

fn setup(mode: Mode) -> Setup {
    let feature = |name: &str, stage, enabled| Feature { name: name.to_owned(), stage, enabled };
    Setup {
        mode,
        families: IpFamily::ALL.to_vec(),
        version: "0.1.0".to_owned(),
        features: vec![feature("ComponentFlagz", "BETA", true), feature("AllAlpha", "ALPHA", false)],
        requests: Requests::default(),
    }
}

/// Every part tells something.
struct Everything;

impl Readings for Everything {
    fn sent(&self) -> Vec<Sent> {
        vec![
            Sent { objects: "sets", bytes: 7, messages: 1 },
            Sent { objects: "rules", bytes: 1_048_576, messages: 20_000 },
        ]
    }

    fn rules(&self, family: IpFamily, table: &str) -> Option<RuleNumbers> {
        let owned = if family == IpFamily::V4 { 40 } else { 30 } + u64::from(table == "nat");
        Some(RuleNumbers { owned, last: 3 })
    }

    fn packets(&self) -> Packets {
        Packets { ct_invalid: Some(5), localhost_node_ports: Some(0) }
    }

    fn cleanups(&self) -> Option<PerFamily<Cleanups>> {
        Some(PerFamily::new(|_| Cleanups { runs: 2, failures: 1, deleted: 9 }))
    }

    fn followed(&self) -> Vec<Followed> {
        vec![Followed { kind: "Service", connected: true, synced: true, relists: 1, failures: 4 }]
    }

    fn left_out(&self) -> Option<u64> {
        Some(2)
    }

    fn memory(&self) -> Option<Memory> {
        Some(Memory { allocated: 9_000_000, resident: 20_971_520 })
    }
}

fn key(service: &str) -> ServicePortKey {
    let name = ServicePortName::new(ObjectName::new("ns", service), "http", Protocol::Tcp);
    ServicePortKey { family: IpFamily::V4, name }
}

/// A service port with one endpoint, on another node.
fn port(service: &str, internal: TrafficPolicy, external: TrafficPolicy, local: bool) -> ServicePort {
    let flags = if local { EndpointFlags::LOCAL } else { EndpointFlags::CLUSTER };
    let endpoint = ModelEndpoint::new(Endpoint { ip: [10, 0, 0, 9].into(), port: 80 }, flags);
    ServicePort {
        internal_policy: internal,
        external_policy: external,
        endpoints: [endpoint].into(),
        has_any_endpoint: true,
        ..ServicePort::new(key(service), [10, 96, 0, 1].into(), 80)
    }
}

fn finished(task: Task, millis: u64, succeeded: bool, v6: bool) -> Finished {
    Finished { task, took: Duration::from_millis(millis), succeeded, families: PerFamily { v4: true, v6 } }
}

/// Metrics to which everything has happened that can.
fn filled(mode: Mode) -> Arc<Metrics> {
    let setup = setup(mode);
    let requests = setup.requests.clone();
    let metrics = Metrics::new(setup);
    metrics.ask(Everything);
    metrics.finished(&finished(Task::Repair, 500, true, true));
    metrics.finished(&finished(Task::Apply, 3, true, false));
    metrics.finished(&finished(Task::PartialRepair, 1, false, false));
    metrics.programmed(IpFamily::V4, i64::MAX);
    metrics.cleaned_up(IpFamily::V4, Duration::from_millis(2));
    metrics.probed(Probe::Healthz, 200);
    metrics.probed(Probe::Livez, 503);
    let request = Request {
        method: "GET",
        host: "10.0.0.1:6443",
        code: Some(200),
        is_watch: false,
        took: Duration::from_millis(30),
    };
    requests.finished(&request);
    requests.finished(&Request { is_watch: true, ..request });
    requests.finished(&Request { code: None, ..request });
    metrics.reloaded(Reload::Rejected);
    let lonely = port("lonely", TrafficPolicy::Local, TrafficPolicy::Cluster, false);
    metrics.in_force([(&lonely.key, Some(&lonely))]);
    metrics
}

/// The value of a series as it is written.
fn value_of(text: &str, series: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
}

/// Contract 6.4, and 2.5 for what counts as local.
#[test]
fn service_ports_without_local_endpoints_are_counted_as_they_come_and_go() {
    use TrafficPolicy::{Cluster, Local};
    let metrics = Metrics::new(setup(Mode::Iptables));
    let count = |policy: &str| {
        let series = "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=";
        value_of(&metrics.text(Format::Text), &format!("{series}\"{policy}\"}}")).unwrap()
    };
    let put = |port: &ServicePort| metrics.in_force([(&port.key, Some(port))]);
    put(&port("a", Local, Local, false));
    put(&port("a", Local, Local, false));
    put(&port("b", Cluster, Local, false));
    put(&port("c", Cluster, Cluster, false));
    put(&port("d", Local, Local, true));
    put(&ServicePort { has_any_endpoint: false, ..port("e", Local, Local, false) });
    assert_eq!((count("internal"), count("external")), ("1".to_owned(), "2".to_owned()));
    put(&port("a", Local, Cluster, true));
    metrics.in_force([(&key("b"), None)]);
    assert_eq!((count("internal"), count("external")), ("0".to_owned(), "0".to_owned()));
}

#[test]
fn an_action_counts_for_its_families_and_a_failed_one_too() {
    let text = filled(Mode::Iptables).text(Format::Text);
    for (series, value) in [
        ("kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}", "3"),
        ("kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"}", "1"),
        ("kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"}", "1"),
        ("kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}", "2"),
        ("kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family=\"IPv4\"}", "0.504"),
        ("kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family=\"IPv4\"}", "1"),
        ("kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family=\"IPv4\"}", "1"),
        ("kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family=\"IPv6\"}", "0"),
        // Noted in the future: what kube-proxy would call negative takes no time here.
        ("kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0\"}", "1"),
        ("kubeproxy_proxy_livez_total{code=\"503\"}", "1"),
        ("rest_client_requests_total{code=\"<error>\",host=\"10.0.0.1:6443\",method=\"GET\"}", "1"),
        ("rest_client_requests_total{code=\"200\",host=\"10.0.0.1:6443\",method=\"GET\"}", "2"),
        ("rest_client_request_duration_seconds_count{host=\"10.0.0.1:6443\",verb=\"GET\"}", "2"),
    ] {
        assert_eq!(value_of(&text, series).as_deref(), Some(value), "{series}");
    }
}

/// Labels that somebody else chooses do not grow without end.
#[test]
fn requests_are_bounded() {
    let setup = setup(Mode::Iptables);
    let requests = setup.requests.clone();
    let metrics = Metrics::new(setup);
    let request = Request { method: "GET", host: "h", code: None, is_watch: true, took: Duration::ZERO };
    for n in 0..2_000 {
        requests.finished(&Request { host: &n.to_string(), ..request });
        requests.finished(&Request { host: "0", ..request });
    }
    let text = metrics.text(Format::Text);
    assert_eq!(text.lines().filter(|line| line.starts_with("rest_client_requests_total{")).count(), 1_000);
    let series = "rest_client_requests_total{code=\"<error>\",host=\"0\",method=\"GET\"}";
    assert_eq!(value_of(&text, series).as_deref(), Some("2001"), "who is known goes on being counted");
}
