//! What an API server fills in when an object is created, and what it would allocate but nobody does here.

use crate::net::{Family, parse_ip};
use crate::source::wire::{EndpointSlice, Problem, Service, ServiceSpec};

/// Defaults of a Service, and what is missing because only an API server hands it out.
pub(super) fn service(object: &mut Service) -> Vec<Problem> {
    let name = format!("Service {}", object.metadata.object_name());
    let spec = object.spec.get_or_insert_default();
    cluster_ips(spec);
    let mut problems = Vec::new();
    let mut missing = |field: String, expected| {
        problems.push(Problem { object: name.clone(), field, value: String::new(), expected });
    };
    if spec.service_type.as_deref() != Some("ExternalName") && is_blank(spec.cluster_ip.as_deref()) {
        missing("spec.clusterIP".to_owned(), "an address, as there is no API server that allocates one");
    }
    if spec.service_type.as_deref() == Some("NodePort") {
        for (i, port) in spec.ports.iter().flatten().enumerate() {
            if port.node_port.unwrap_or(0) == 0 {
                missing(format!("spec.ports[{i}].nodePort"), "a port, as there is no API server that allocates one");
            }
        }
    }
    problems
}

/// `clusterIP`, `clusterIPs` and `ipFamilies` say the same; any of them is enough.
fn cluster_ips(spec: &mut ServiceSpec) {
    let ips = spec.cluster_ips.get_or_insert_default();
    match spec.cluster_ip.as_deref() {
        None | Some("") => spec.cluster_ip = ips.first().cloned(),
        Some(ip) if ips.is_empty() => ips.push(ip.to_owned()),
        Some(_) => {}
    }
    let families = spec.ip_families.get_or_insert_default();
    if families.is_empty() {
        let known: Option<Vec<_>> = ips.iter().map(|text| parse_ip(text)).collect();
        let known = known.unwrap_or_default();
        families.extend(known.iter().map(|ip| Family::of(ip).as_str().to_owned()));
    }
}

fn is_blank(text: Option<&str>) -> bool {
    text.is_none_or(str::is_empty)
}

/// Defaults of an EndpointSlice: a port without a name has the empty name.
pub(super) fn slice(object: &mut EndpointSlice) {
    for port in object.ports.iter_mut().flatten() {
        port.name.get_or_insert_default();
    }
}
