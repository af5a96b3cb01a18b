//! Service ports in one line each, for messages.

use std::fmt::Write;
use std::sync::Arc;

use weir::model::{EndpointFlags, ServicePort};

/// One line for each service port.
pub fn brief(model: &[Arc<ServicePort>]) -> String {
    model.iter().map(|port| line(port)).collect()
}

fn line(port: &ServicePort) -> String {
    let mut out = format!("{}/{} {}:{}", port.key.name, port.key.name.protocol, port.cluster_ip, port.port);
    let mut word = |name: &str, value: String| {
        if !value.is_empty() && value != "0" {
            let _ = write!(out, " {name}={value}");
        }
    };
    let list = |items: Vec<String>| items.join(",");
    word("nodePort", port.node_port.to_string());
    word("healthCheck", port.health_check_node_port.to_string());
    word("externalIPs", list(port.external_ips.iter().map(ToString::to_string).collect()));
    word("VIPs", list(port.load_balancer_ips.iter().map(ToString::to_string).collect()));
    word("ranges", list(port.source_ranges.iter().map(ToString::to_string).collect()));
    word("affinity", port.affinity_seconds.unwrap_or(0).to_string());
    word("internal", format!("{:?}", port.internal_policy));
    word("external", format!("{:?}", port.external_policy));
    let endpoint = |e: &weir::model::ModelEndpoint| {
        let flag = |flag, letter| if e.flags.contains(flag) { letter } else { "" };
        let lists = [flag(EndpointFlags::CLUSTER, "+c"), flag(EndpointFlags::LOCAL, "+l")].concat();
        format!("{}{lists}{}", e.endpoint, flag(EndpointFlags::ELSEWHERE, "+elsewhere"))
    };
    word("endpoints", list(port.endpoints.iter().map(endpoint).collect()));
    word("any", port.has_any_endpoint.to_string());
    out.push('\n');
    out
}
