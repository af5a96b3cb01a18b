//! Objects as a cluster has them. The server fills in what it allocates.

use std::net::IpAddr;

use serde_json::{Value, json};
use weir::lab::Host;
use weir::net::Family;

pub const NODE: &str = "node-a";
/// Where endpoints listen.
pub const TARGET: u16 = 8080;

pub const NODES: &str = "/api/v1/nodes";
pub const SERVICES: &str = "/api/v1/namespaces/default/services";
pub const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// The node, with its address in the lab.
pub fn node(host: &Host) -> Value {
    let addresses: Vec<Value> =
        host.addresses().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
        "status": {"addresses": addresses},
    })
}

/// A service of one TCP port; `more` is added to its spec.
pub fn service(name: &str, more: &Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"name": "p", "port": 80, "protocol": "TCP", "targetPort": TARGET}]},
    });
    let fields = more.as_object().cloned().unwrap_or_default();
    service["spec"].as_object_mut().unwrap().extend(fields);
    service
}

/// Its endpoints: pods on the node.
pub fn slice(service: &str, pods: &[&Host]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "p", "protocol": "TCP", "port": TARGET}],
        "endpoints": endpoints(pods),
    })
}

pub fn endpoints(pods: &[&Host]) -> Value {
    let endpoint = |pod: &&Host| {
        let address: IpAddr = pod.address(Family::V4).unwrap();
        json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": NODE})
    };
    pods.iter().map(endpoint).collect()
}

/// `spec.clusterIP` and port 80.
pub fn cluster_ip(service: &Value) -> std::net::SocketAddr {
    let ip: IpAddr = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    (ip, 80).into()
}
