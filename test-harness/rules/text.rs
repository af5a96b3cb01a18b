//! Rows of the catalogue about texts and numbers of rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use weir::kernel::xtables::encode::{ONE, rule_text};
use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{ChainKey, ChainName, Match, Rule, Table, Target};
use weir::model::oracle::{Packet, Verdict, judge};
use weir::model::{ServicePort, Settings};
use weir::net::{Family, Protocol};
use weir::plan::iptables::Desired;
use weir::sim::scenario::Scenario;
use weir::sim::trace::trace;
use weir::source::wire;
use weir::state::{Fact, State, TrafficPolicy, Update};

use crate::cluster::model;
use crate::kernel::Programmed;
use crate::packets::host;
use crate::proxy::Proxy;
use crate::scenarios::folder;

fn chains(settings: &Settings, model: &[Arc<ServicePort>]) -> BTreeMap<ChainKey, Vec<Rule>> {
    Desired::plan(&Arc::new(settings.clone()), &[Family::V4], model).0.chains().clone()
}

fn state_after(scenario: &Scenario, steps: usize) -> State {
    let mut state = State::default();
    scenario.steps.iter().take(steps).for_each(|step| drop(state.apply(step.updates.clone())));
    state
}

/// J1: three rules of KUBE-FORWARD; four fixed ones and the way to the node ports in nat.
#[test]
fn j1_an_empty_cluster_has_the_fixed_rules() {
    let count = |table: Table| -> Vec<String> {
        let rules = chains(&Settings::default(), &[]);
        let of_table = rules.iter().filter(|(key, _)| key.table == table);
        of_table.flat_map(|(key, rules)| rules.iter().map(|_| key.name.to_string())).collect()
    };
    assert_eq!(count(Table::Filter), ["KUBE-FORWARD"; 3]);
    let nat = ["KUBE-MARK-MASQ", "KUBE-POSTROUTING", "KUBE-POSTROUTING", "KUBE-POSTROUTING", "KUBE-SERVICES"];
    assert_eq!(count(Table::Nat), nat);
    assert!(count(Table::Mangle).is_empty());
}

/// J2: the names that kube-proxy gives (contract 3.1), and no others. `rules/scenarios/j2-six-services` has the rules.
/// The endpoint that is on another node, `KUBE-SEP-UKSFD7AGPMPPLUHC`, needs no chain.
#[test]
fn j2_chains_have_kube_proxys_names() {
    let scenario = Scenario::load(&folder().join("j2-six-services")).unwrap();
    let chains = chains(&scenario.settings, &model(&state_after(&scenario, 1)));
    let prefixes = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"];
    let names: BTreeSet<&str> = chains.keys().map(|key| key.name.as_str()).collect();
    let own: BTreeSet<&str> =
        names.into_iter().filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))).collect();
    let golden = BTreeSet::from([
        "KUBE-SVC-XPGD46QRK7WJZT7O",
        "KUBE-SEP-SXIVWICOYRO3J4NJ",
        "KUBE-SVC-GNZBNJ2PO5MGZ6GT",
        "KUBE-EXT-GNZBNJ2PO5MGZ6GT",
        "KUBE-SEP-RS4RBKLTHTF2IUXJ",
        "KUBE-SVC-X27LE4BHSL4DOUIK",
        "KUBE-EXT-X27LE4BHSL4DOUIK",
        "KUBE-SEP-OYPFS5VJICHGATKP",
        "KUBE-SVC-4SW47YFZTEDKD3PK",
        "KUBE-EXT-4SW47YFZTEDKD3PK",
        "KUBE-SEP-C6EBXVWJJZMIWKLZ",
        "KUBE-SVC-NUKIZ6OKUXPJNT4C",
        "KUBE-EXT-NUKIZ6OKUXPJNT4C",
        "KUBE-FW-NUKIZ6OKUXPJNT4C",
        "KUBE-SEP-I77PXRDZVX7PMWMN",
    ]);
    assert_eq!(own, golden);
}

/// J3: one rule, and none when the service is gone. The packets are in `rules/scenarios/health-check-node-port`.
#[test]
fn j3_the_health_check_rule_comes_and_goes() {
    let scenario = Scenario::load(&folder().join("health-check-node-port")).unwrap();
    let key = ChainKey { family: Family::V4, table: Table::Filter, name: ChainName::new("KUBE-NODEPORTS") };
    let texts = |steps| -> Vec<String> {
        let chains = chains(&scenario.settings, &model(&state_after(&scenario, steps)));
        chains[&key].iter().map(|rule| rule_text(Family::V4, rule)).collect()
    };
    let rule = r#"-p tcp -m comment --comment "ns1/svc1:p80 health check node port" -m tcp --dport 30000 -j ACCEPT"#;
    assert_eq!(texts(1), [rule]);
    assert!(texts(2).is_empty());
}

/// A service of the API's JSON with `count` endpoints.
fn service_with_endpoints(count: usize) -> Vec<Arc<ServicePort>> {
    let service = r#"{"metadata": {"namespace": "ns", "name": "a"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}"#;
    let endpoints: Vec<String> =
        (0..count).map(|e| format!(r#"{{"addresses": ["10.1.{}.{}"]}}"#, e / 256, e % 256)).collect();
    let slice = format!(
        r#"{{"metadata": {{"namespace": "ns", "name": "a-1", "labels": {{"kubernetes.io/service-name": "a"}}}},
            "addressType": "IPv4", "ports": [{{"name": "", "port": 80}}], "endpoints": [{}]}}"#,
        endpoints.join(",")
    );
    let (model, problems) = model_of(service, &slice);
    assert_eq!(problems, 0);
    model
}

/// The model of a service and its slice, and how many values in them could not be used.
fn model_of(service: &str, slice: &str) -> (Vec<Arc<ServicePort>>, usize) {
    let mut names = wire::Interner::default();
    let service: wire::Service = serde_json::from_str(service).unwrap();
    let slice: wire::EndpointSlice = serde_json::from_str(slice).unwrap();
    let (service, service_problems) = service.to_fact(&mut names);
    let (slice, slice_problems) = slice.to_fact(&mut names);
    let mut state = State::default();
    let updates = [Fact::Service(service), Fact::EndpointSlice(slice.unwrap())].map(Update::Upsert);
    state.apply(updates.into());
    (model(&state), service_problems.len() + slice_problems.len())
}

/// The probabilities of a chain's rules, 1 where there is no condition, without the masquerade rule.
fn probabilities(rules: &[Rule]) -> Vec<u32> {
    let choosing = rules.iter().filter(|rule| rule.destination.is_none());
    let random = |rule: &Rule| {
        rule.matches.iter().find_map(|m| match m {
            Match::Random { probability } => Some(*probability),
            _ => None,
        })
    };
    choosing.map(|rule| random(rule).unwrap_or(ONE)).collect()
}

/// J6: what the kernel stores of 1/N, 1/(N-1) and so on increases strictly, and so do the texts, which read back as the
/// same values.
#[test]
fn j6_probabilities_increase_strictly() {
    for count in [1, 2, 3, 10, 32, 33, 100, 1000, 5000] {
        let mut choosing = 0;
        for (key, rules) in chains(&Settings::default(), &service_with_endpoints(count)) {
            let to_endpoints = |rule: &Rule| match &rule.target {
                Some(Target::Jump(to)) => to.as_str().starts_with("KUBE-SEP-"),
                target => matches!(target, Some(Target::Dnat(_))),
            };
            if !key.name.as_str().starts_with("KUBE-SVC-") || !rules.iter().any(to_endpoints) {
                continue;
            }
            let found = probabilities(&rules);
            choosing += found.len();
            assert!(found.is_sorted_by(|a, b| a < b), "{count} endpoints, {key}: {found:?}");
            for (i, probability) in found.iter().enumerate() {
                let exact = f64::from(ONE) / (found.len() - i) as f64;
                // Ten decimals, and half a step of the kernel's.
                assert!((f64::from(*probability) - exact).abs() <= 0.65, "{count} endpoints, {key} rule {i}");
            }
            let texts: Vec<f64> = rules.iter().filter_map(probability_text).collect();
            assert!(texts.is_sorted_by(|a, b| a < b), "{texts:?}");
            for (text, probability) in texts.iter().zip(&found) {
                assert_eq!((text * f64::from(ONE)).round() as u32, *probability);
            }
        }
        assert_eq!(choosing, count);
    }
}

fn probability_text(rule: &Rule) -> Option<f64> {
    let text = rule_text(Family::V4, rule);
    let (_, rest) = text.split_once("--probability ")?;
    rest.split(' ').next()?.parse().ok()
}

/// J16: bogus addresses are left out, each with a problem told; the rest of the object counts. (What has leading zeros
/// is in `rules/scenarios/leading-zeros`.)
#[test]
fn j16_bogus_addresses_are_skipped() {
    let service = r#"{"metadata": {"namespace": "ns", "name": "a"}, "spec": {
        "type": "LoadBalancer", "clusterIP": "10.096.000.1", "externalIPs": ["1.2.3", "192.168.099.011", "x"],
        "loadBalancerSourceRanges": ["203.0.113.000/25", "10.0.0.0/33"], "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4.5"}, {"ip": "001.002.003.004"}]}}}"#;
    let slice = r#"{"metadata": {"namespace": "ns", "name": "a-1", "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 80}],
        "endpoints": [{"addresses": ["010.001.000.001"]}, {"addresses": ["10.1.0.256"]}]}"#;
    let (model, problems) = model_of(service, slice);
    assert_eq!(problems, 5);
    let port = &model[0];
    let text = |list: &[std::net::IpAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(port.cluster_ip.to_string(), "10.96.0.1");
    assert_eq!(text(&port.external_ips), ["192.168.99.11"]);
    assert_eq!(text(&port.load_balancer_ips), ["1.2.3.4"]);
    assert_eq!(port.source_ranges[..], ["203.0.113.0/25".parse().unwrap()]);
    assert_eq!(port.endpoints.len(), 1);
    // And a kernel takes the rules.
    Programmed::new(Variant::Legacy, &Arc::new(Settings::default()), model).rules(Family::V4);
}

/// Two services refuse the same packet, one at its external IP and one at its node port: the address comes first,
/// whatever their names (contract 3.4).
#[test]
fn addresses_refuse_before_node_ports() {
    let node: IpAddr = "192.168.0.2".parse().unwrap();
    let named = |name: &str| {
        let mut port = (*service_with_endpoints(1)[0]).clone();
        port.key.name.service.name = name.into();
        port
    };
    for (at_port, at_address) in [("a", "b"), ("b", "a")] {
        // Endpoints, but none here: dropped.
        let external_policy = TrafficPolicy::Local;
        let first = ServicePort { node_port: 30_000, external_policy, ..named(at_port) };
        // No endpoints at all: rejected.
        let external_ips = Box::new([node]);
        let (endpoints, has_any_endpoint) = (Box::default(), false);
        let cluster_ip = "10.96.0.2".parse().unwrap();
        let second =
            ServicePort { port: 30_000, cluster_ip, external_ips, endpoints, has_any_endpoint, ..named(at_address) };
        let mut model = vec![Arc::new(first), Arc::new(second)];
        model.sort_by(|a, b| a.key.cmp(&b.key));
        let packet = Packet {
            source: "203.0.113.2".parse().unwrap(),
            destination: node,
            protocol: Protocol::Tcp,
            port: 30_000,
            in_interface: Some("eth0".to_owned()),
        };
        let settings = Arc::new(Settings::default());
        assert_eq!(judge(model.iter().map(|port| &**port), &settings, &host(), &packet), Verdict::Reject);
        let rules = Programmed::new(Variant::Nft, &settings, model).rules(Family::V4);
        assert_eq!(trace(&rules, &host(), &packet).unwrap().verdict, Verdict::Reject);
    }
}
