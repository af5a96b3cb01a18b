//! The cluster's facts as API objects: for the scripted API server, and for manifests.

use serde_json::{Value, json};
use weir::state::{ClusterIp, EndpointSlice, Node, Service};

/// A Service, with the fields that an API server fills in.
pub fn service(service: &Service) -> Value {
    let ClusterIp::Ip(ip) = service.cluster_ip else { panic!("the generator gives every service a cluster IP") };
    let ports = service.ports.iter().map(|port| {
        json!({"name": &*port.name, "protocol": port.protocol.upper(), "port": port.port, "targetPort": port.port})
    });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": &*service.name.namespace, "name": &*service.name.name},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "selector": {"app": &*service.name.name},
            "ports": ports.collect::<Vec<_>>(),
        },
        "status": {"loadBalancer": {}},
    })
}

/// An EndpointSlice, as the endpoint slice controller writes it.
pub fn slice(slice: &EndpointSlice) -> Value {
    let endpoints = slice.endpoints.iter().map(|endpoint| {
        json!({
            "addresses": [endpoint.ip],
            "conditions": {
                "ready": endpoint.conditions.ready,
                "serving": endpoint.conditions.serving,
                "terminating": endpoint.conditions.terminating,
            },
            "nodeName": endpoint.node(),
            "targetRef": {
                "kind": "Pod",
                "namespace": &*slice.name.namespace,
                "name": format!("{}-{}", slice.service, endpoint.ip.to_string().replace('.', "-")),
                "uid": format!("00000000-0000-4000-8000-{:0>12}", endpoint.ip.to_string().replace('.', "")),
            },
        })
    });
    let ports = slice
        .ports
        .iter()
        .map(|port| json!({"name": &*port.name, "protocol": port.protocol.upper(), "port": port.port}));
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": &*slice.name.namespace,
            "name": &*slice.name.name,
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": &*slice.service,
            },
        },
        "addressType": "IPv4",
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

/// A Node.
pub fn node(node: &Node) -> Value {
    let addresses = node.ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip}));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": &*node.name},
        "status": {"addresses": addresses.collect::<Vec<_>>()},
    })
}
