use super::*;
use crate::net::{Endpoint, Protocol};

const MANIFEST: &str = "
apiVersion: v1
kind: Service
metadata: {namespace: ns1, name: svc1}
spec: {clusterIP: 172.30.0.41, ports: [{port: 80}]}
---
apiVersion: v1
kind: Node
metadata: {name: local-node, labels: {topology.kubernetes.io/zone: a}}
";

fn load(packets: &str) -> Result<Scenario, ScenarioError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("manifests.yaml"), MANIFEST).unwrap();
    std::fs::write(folder.path().join("packets.yaml"), packets).unwrap();
    Scenario::load(folder.path())
}

fn error(packets: &str) -> String {
    load(packets).unwrap_err().to_string()
}

#[test]
fn a_scenario_is_read() {
    let scenario = load(
        r#"
about: one of everything
settings: {masqueradeAll: true, detector: {interface: cbr0}, nodePortAddresses: [192.168.0.2]}
moreHostAddresses: [1.2.3.4]
packets:
- {row: A1, from: pod, to: 172.30.0.41:80/tcp, expect: none}
- {row: B2, from: 10.180.0.1, to: "172.30.0.41:80/udp", kept: [10.180.0.2:80], masqueraded: [10.180.0.1:80]}
- {row: C12, from: 1.2.3.4 on node, to: 1.2.3.4:80/sctp, expect: drop}
- {row: E5, from: external, to: "[2001:db8::1]:3001/tcp", kept: ["[fd00:10::1]:80"]}
then:
- about: gone
  delete: [Service ns1/svc1]
  packets: []
"#,
    )
    .unwrap();
    assert!(scenario.settings.masquerade_all);
    assert!(scenario.host.is_local(&"1.2.3.4".parse().unwrap()));
    assert_eq!(scenario.settings.node_ips.v6, Some("2001:db8::1".parse().unwrap()));

    let flows = &scenario.steps[0].packets;
    assert_eq!((flows[0].client, &flows[0].expect), (Client::Pod, &Verdict::Untouched));
    assert_eq!(flows[1].packet.protocol, Protocol::Udp);
    let Verdict::Serve(outcomes) = &flows[1].expect else { panic!("{:?}", flows[1].expect) };
    let outcomes: Vec<_> = outcomes.iter().map(|(o, p)| (o.endpoint, o.masqueraded, *p)).collect();
    let endpoint = |text: &str| Endpoint::new(text.parse().unwrap(), 80);
    assert_eq!(outcomes, [(endpoint("10.180.0.1"), true, 0.5), (endpoint("10.180.0.2"), false, 0.5)]);
    assert_eq!((flows[2].client, flows[2].packet.in_interface.as_deref()), (Client::Node, None));
    assert_eq!(flows[3].packet.source, "2600:5200::1".parse::<IpAddr>().unwrap());

    let mut state = State::default();
    state.apply(scenario.steps[0].updates.clone());
    assert!(state.ready());
    assert_eq!(state.service_names().count(), 1);
    assert_eq!(scenario.node(&state), NodeContext { name: Fixture::NODE.into(), zone: Some("a".into()) });
    state.apply(scenario.steps[1].updates.clone());
    assert_eq!(state.service_names().count(), 0);
}

#[test]
fn mistakes_are_errors() {
    let packet = |text: &str| error(&format!("about: x\npackets:\n- {text}\n"));
    for (message, part) in [
        (error("about: x\npackets: []\nextra: 1"), "extra"),
        (error("about: x\nsettings: {masqueradeSome: true}\npackets: []"), "masqueradeSome"),
        (error("about: x\nmanifests: [absent.yaml]\npackets: []"), "absent.yaml"),
        (error("about: x\npackets: []\nthen: [{about: y, delete: [Pod a/b], packets: []}]"), "Pod a/b"),
        (packet("{row: A1, from: pod, to: 1.2.3.4:80/tcp, expect: refuse}"), "refuse"),
        (packet("{row: A1, from: pod, to: 1.2.3.4:80/icmp, expect: drop}"), "row A1: to: unknown protocol"),
        (packet("{row: A1, from: pod, to: 1.2.3.4/tcp, expect: drop}"), "is not address:port/protocol"),
        (packet("{row: A1, from: nobody, to: 1.2.3.4:80/tcp, expect: drop}"), "nobody"),
        (packet("{row: A1, from: \"::1\", to: 1.2.3.4:80/tcp, expect: drop}"), "same family"),
        (packet("{row: A1, from: pod, to: 1.2.3.4:80/tcp}"), "either expect"),
        (packet("{row: A1, from: pod, to: 1.2.3.4:80/tcp, expect: drop, kept: [1.1.1.1:80]}"), "either expect"),
        (packet("{row: A1, from: pod, to: 1.2.3.4:80/tcp, kept: [1.1.1.1:80, 1.1.1.1:80]}"), "twice"),
    ] {
        assert!(message.contains(part) && message.contains(".yaml"), "{message}");
    }
}

#[test]
fn a_value_that_can_not_be_used_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("manifests.yaml"), MANIFEST.replace("172.30.0.41", "172.30.0.400")).unwrap();
    std::fs::write(folder.path().join("packets.yaml"), "about: x\npackets: []\n").unwrap();
    let message = Scenario::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("Service ns1/svc1: spec.clusterIP"), "{message}");
}

#[test]
fn a_packet_may_fare_differently_in_ipvs_mode() {
    let with =
        |ipvs: &str| format!("about: x\npackets:\n- {{row: x, from: pod, to: 1.2.3.4:80/tcp, expect: none{ipvs}}}\n");
    let scenario = load(&with(", ipvs: {difference: 2, expect: reject}")).unwrap();
    let flow = &scenario.steps[0].packets[0];
    assert_eq!(Mode::ALL.map(|mode| flow.expected(mode).clone()), [Verdict::Untouched, Verdict::Reject]);
    assert_eq!(flow.ipvs.as_ref().unwrap().number, 2);
    let same = load(&with("")).unwrap();
    assert_eq!(same.steps[0].packets[0].expected(Mode::Ipvs), &Verdict::Untouched);
    for (ipvs, reason) in [
        (", ipvs: {difference: 2, expect: none}", "ipvs: this is no difference"),
        (", ipvs: {difference: 2}", "ipvs: give either expect, or kept and masqueraded endpoints"),
        (", ipvs: {expect: reject}", "difference"),
    ] {
        let error = error(&with(ipvs));
        assert!(error.contains(reason), "{error}");
    }
}
