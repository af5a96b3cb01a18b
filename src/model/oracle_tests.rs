use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::resolve::{Options, resolve};
use crate::sim::scenario::{Scenario, Step};
use crate::state::State;

fn scenarios() -> Vec<Scenario> {
    Scenario::load_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/scenarios")).unwrap()
}

fn model(scenario: &Scenario, state: &State) -> Vec<Arc<ServicePort>> {
    let node = scenario.node(state);
    let mut ports: Vec<_> =
        state.service_names().flat_map(|name| resolve(state, name, &node, &Options::default())).collect();
    ports.sort_by(|a, b| a.key.cmp(&b.key));
    ports
}

fn check(scenario: &Scenario, step: &Step, state: &State, wrong: &mut Vec<String>) {
    let model = model(scenario, state);
    for (flow, mode) in step.packets.iter().flat_map(|flow| Mode::ALL.map(|mode| (flow, mode))) {
        let services = model.iter().map(|port| &**port);
        let verdict = judge_in(mode, services, &scenario.settings, &scenario.host, &flow.packet);
        let expected = flow.expected(mode);
        if !verdict.agrees_with(expected) {
            let place = format!("{}, {}, row {}, {mode:?}", scenario.name, step.about, flow.row);
            wrong.push(format!("{place}: {:?}\n  expected {expected:?}\n  is {verdict:?}", flow.packet));
        }
    }
}

/// Every packet of `rules/scenarios`: sections A to I and more.
#[test]
fn every_packet_meets_its_verdict() {
    let mut wrong = Vec::new();
    for scenario in scenarios() {
        let mut state = State::default();
        for step in &scenario.steps {
            state.apply(step.updates.clone());
            check(&scenario, step, &state, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// No row of the catalogue's sections A to I that concerns this mode is missing.
#[test]
fn the_catalogue_is_covered() {
    let mut expected = BTreeSet::from(["C16".to_owned(), "C17".into(), "J3".into(), "T22".into(), "T54".into()]);
    for (section, rows) in [
        ("A", vec![1..=6]),
        ("B", vec![1..=9]),
        ("C", vec![1..=13]),
        ("D", vec![1..=3]),
        ("E", vec![1..=14]),
        ("F", vec![1..=7, 11..=17]),
        ("G", vec![1..=4]),
        ("H", vec![1..=10]),
    ] {
        expected.extend(rows.into_iter().flatten().map(|row| format!("{section}{row}")));
    }
    let scenarios = scenarios();
    let flows = || scenarios.iter().flat_map(|scenario| &scenario.steps).flat_map(|step| &step.packets);
    let found: BTreeSet<String> = flows().map(|flow| flow.row.clone()).collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // 30 flows in each of 4 configurations.
    assert_eq!(flows().filter(|flow| flow.row == "I").count(), 120);
}

/// Every difference of IPVS mode has a packet that shows it.
#[test]
fn every_difference_of_ipvs_mode_is_shown() {
    let scenarios = scenarios();
    let flows = scenarios.iter().flat_map(|scenario| &scenario.steps).flat_map(|step| &step.packets);
    let shown: BTreeSet<u8> = flows.filter_map(|flow| Some(flow.ipvs.as_ref()?.number)).collect();
    assert_eq!(shown, (1..=8).collect());
}

fn packet(from: &str, to: &str, port: u16) -> Packet {
    Packet {
        source: from.parse().unwrap(),
        destination: to.parse().unwrap(),
        protocol: Protocol::Tcp,
        port,
        in_interface: Some("eth0".to_owned()),
    }
}

/// Two services with one external IP and port: the first that can serve does, and only what none serves is refused.
#[test]
fn of_two_services_the_first_that_can_serve_does() {
    let manifests = |first: &str, second: &str| {
        let service = |name: &str, ip: &str, policy: &str| {
            format!(
                "kind: Service\nmetadata: {{namespace: ns, name: {name}}}\nspec: {{clusterIP: {ip}, externalIPs: [9.9.9.9], \
                 externalTrafficPolicy: {policy}, ports: [{{port: 80}}]}}\n"
            )
        };
        let slice = |name: &str, node: &str, ip: &str| match node {
            "" => String::new(),
            _ => format!(
                "---\nkind: EndpointSlice\nmetadata: {{namespace: ns, name: {name}-1, labels: {{kubernetes.io/service-name: \
                 {name}}}}}\naddressType: IPv4\nports: [{{name: '', port: 80}}]\nendpoints: [{{addresses: [{ip}], nodeName: {node}}}]\n"
            ),
        };
        let (a, b) = (service("a", "10.96.0.1", "Local"), service("b", "10.96.0.2", "Local"));
        format!("{a}---\n{b}{}{}", slice("a", first, "10.1.0.1"), slice("b", second, "10.1.0.2"))
    };
    let verdict = |first: &str, second: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("manifests.yaml"), manifests(first, second)).unwrap();
        std::fs::write(folder.path().join("packets.yaml"), "about: x\npackets: []\n").unwrap();
        let scenario = Scenario::load(folder.path()).unwrap();
        let mut state = State::default();
        state.apply(scenario.steps[0].updates.clone());
        let model = model(&scenario, &state);
        let packet = packet("203.0.113.2", "9.9.9.9", 80);
        judge(model.iter().map(|port| &**port), &scenario.settings, &scenario.host, &packet)
    };
    let served = |ip: &str| {
        let endpoint = Endpoint::new(ip.parse().unwrap(), 80);
        Verdict::Serve(BTreeMap::from([(Outcome { endpoint, masqueraded: false }, 1.0)]))
    };
    assert_eq!(verdict("local-node", "local-node"), served("10.1.0.1"));
    assert_eq!(verdict("remote-node", "local-node"), served("10.1.0.2"));
    assert_eq!(verdict("", "local-node"), served("10.1.0.2"));
    assert_eq!(verdict("remote-node", ""), Verdict::Drop);
    assert_eq!(verdict("", "remote-node"), Verdict::Reject);
    assert_eq!(verdict("", ""), Verdict::Reject);
}

#[test]
fn no_services_touch_nothing() {
    let host = Host { addresses: vec!["192.168.0.2".parse().unwrap()] };
    let judge = |packet: &Packet| judge(std::iter::empty(), &Settings::default(), &host, packet);
    assert_eq!(judge(&packet("203.0.113.2", "192.168.0.2", 3001)), Verdict::Untouched);
    assert_eq!(judge(&packet("203.0.113.2", "127.0.0.1", 3001)), Verdict::Drop);
}
