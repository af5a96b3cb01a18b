//! What rules depend on beside services: addresses of the host and the Node object, while they change.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use weir::lab::{DROP_TIMEOUT, EchoServer, Host, Lab, LabConfig, Probe, rerun};
use weir::net::{Family, Protocol};

use crate::cluster::{Api, Folder, NODE, service, slice, to_endpoint};
use crate::process::{Proxy, diff, eventually, in_step};
use crate::program::{rules, small_lab};

const SAVE: &str = "iptables-nft-save";
const NODE_PORT: u16 = 30_080;

fn with_node_port(name: &str, ip: &str) -> Value {
    let mut service = service(name, ip);
    service["spec"]["type"] = "NodePort".into();
    service["spec"]["ports"][0]["nodePort"] = NODE_PORT.into();
    service
}

fn answers(host: &Host, address: IpAddr) -> bool {
    let probe = Probe::tcp(SocketAddr::new(address, NODE_PORT)).timeout(DROP_TIMEOUT);
    probe.run(host).is_ok()
}

/// Node ports answer on an address as soon as the host has it, long before anybody looks at the host by the clock.
#[test]
fn node_ports_follow_addresses() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = Lab::new(&LabConfig { pods: 1, node2_pods: 0, ..LabConfig::default() }).unwrap();
    let (node, pod) = (lab.node(), &lab.pods()[0]);
    let _server = EchoServer::start(pod, &[(Protocol::Tcp, 8080)]).unwrap();
    let folder = Folder::new();
    let endpoint = pod.address(Family::V4).unwrap().to_string();
    let items = json!({"items": [with_node_port("a", "10.96.0.1"), slice("a", &[&endpoint])], "apiVersion": "v1", "kind": "List"});
    folder.put("a.json", &items.to_string());
    let source = folder.flag();
    let flags = [
        source.as_str(),
        "--hostname-override",
        NODE,
        "--iptables-variant=nft",
        "--nodeport-addresses=203.0.113.0/24",
        "--iptables-sync-period=60s",
    ];
    let running = Proxy::start(node, &flags).started();
    let mut took = Vec::new();
    for number in 1..=3 {
        let address: IpAddr = format!("203.0.113.{number}").parse().unwrap();
        node.add_address("lo", address.into()).unwrap();
        let start = Instant::now();
        eventually("the node port answers", || answers(node, address));
        took.push(start.elapsed());
        node.check("ip", &["address", "del", &format!("{address}/32"), "dev", "lo"], "").unwrap();
        eventually("it is gone with the address", || !rules(node, SAVE).contains(&address.to_string()));
    }
    println!("node ports answered after {took:?}");
    // The host is looked at every ten seconds, too: that alone could not be so quick three times.
    assert!(took.iter().min().unwrap() < &Duration::from_secs(1), "{took:?}");
    assert!(took.iter().max().unwrap() < &Duration::from_secs(5), "{took:?}");
    assert_eq!(running.stop().0, Some(0));
}

/// An endpoint for each zone, by hints.
fn zoned_slice() -> Value {
    let mut slice = slice("z", &["10.244.1.1", "10.244.2.2"]);
    for (number, zone) in ["a", "b"].into_iter().enumerate() {
        slice["endpoints"][number]["hints"] = json!({"forZones": [{"name": zone}]});
    }
    slice
}

fn node_object(ip: &str, zone: &str, pod_cidr: &str) -> Value {
    json!({
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"podCIDRs": [pod_cidr]},
        "status": {"addresses": [{"type": "InternalIP", "address": ip}]},
    })
}

/// Contract 1.10, 1.12: where kube-proxy ends, or goes on with what was true at its start, rules follow.
#[test]
fn rules_follow_the_node_object() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    for address in ["203.0.113.1", "203.0.113.2"] {
        node.add_address("lo", address.parse::<IpAddr>().unwrap().into()).unwrap();
    }
    let api = Api::start(node);
    api.server.put(node_object("203.0.113.1", "a", "10.244.1.0/24"));
    api.server.put(with_node_port("z", "10.96.0.1"));
    api.server.put(zoned_slice());
    let source = api.flag();
    let flags = [
        source.as_str(),
        "--hostname-override",
        NODE,
        "--iptables-variant=nft",
        "--detect-local-mode=NodeCIDR",
        "--nodeport-addresses=primary",
    ];
    let running = Proxy::start(node, &flags).started();
    let holds = |present: &[&str], absent: &[&str]| {
        let text = rules(node, SAVE);
        present.iter().all(|part| text.contains(part)) && !absent.iter().any(|part| text.contains(part))
    };
    let (in_a, in_b) = (to_endpoint("10.244.1.1"), to_endpoint("10.244.2.2"));
    eventually("the first state", || {
        holds(&["-d 203.0.113.1/32", &in_a, "! -s 10.244.1.0/24"], &["203.0.113.2", &in_b])
    });

    api.server.put(node_object("203.0.113.2", "a", "10.244.1.0/24"));
    eventually("another address", || holds(&["-d 203.0.113.2/32"], &["203.0.113.1"]));
    api.server.put(node_object("203.0.113.2", "b", "10.244.1.0/24"));
    eventually("another zone", || holds(&[&in_b], &[&in_a]));
    api.server.put(node_object("203.0.113.2", "b", "10.244.9.0/24"));
    eventually("another network of pods", || holds(&["! -s 10.244.9.0/24"], &["10.244.1.0/24"]));
    assert!(in_step(node, &flags), "{}", diff(node, &flags).out);

    let before = rules(node, SAVE);
    assert!(api.server.delete("Node", "", NODE));
    api.serve("later", "10.96.0.9", &["10.244.3.3"]);
    eventually("the deletion is through", || holds(&[&to_endpoint("10.244.3.3")], &[]));
    api.server.delete("Service", "ns", "later");
    api.server.delete("EndpointSlice", "ns", "later-1");
    eventually("nothing else has changed", || rules(node, SAVE) == before);
    api.server.put(node_object("203.0.113.1", "b", "10.244.9.0/24"));
    eventually("the node is back", || holds(&["-d 203.0.113.1/32"], &["203.0.113.2"]));
    assert_eq!(running.stop().0, Some(0));
}
