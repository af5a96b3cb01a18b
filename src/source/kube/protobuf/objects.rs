//! The fields of the objects that are read, by their numbers.
//!
//! Numbers are those of the `generated.proto` of `k8s.io/api` `core/v1`, `discovery/v1`, `networking/v1`, and of
//! `k8s.io/apimachinery` `pkg/apis/meta/v1`; they never change. A server writes what is not a pointer in its own
//! types even where it is empty: an empty text means what an absent one means.

use super::wire::{Field, Misread};
use crate::source::wire::{
    Annotations, ClientIpConfig, Endpoint, EndpointConditions, EndpointHints, EndpointSlice, First, Ingress,
    LABEL_HEADLESS, LABEL_PROXY_NAME, LABEL_SERVICE_NAME, LABEL_ZONE, Labels, LoadBalancerStatus, Metadata, NameRef,
    Node, NodeAddress, NodeSpec, NodeStatus, Service, ServiceCidr, ServiceCidrSpec, ServicePort, ServiceSpec,
    ServiceStatus, SessionAffinityConfig, SlicePort, Taint, Text,
};

type Filled = Result<(), Misread>;

/// `metadata` alone, whatever else the object has: it is field 1 of every object.
pub fn only_metadata<'a>(metadata: &mut Metadata<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => field.message("metadata", metadata, self::metadata),
        _ => Ok(()),
    }
}

/// `ObjectMeta` of meta/v1.
fn metadata<'a>(metadata: &mut Metadata<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => metadata.name = field.text("name")?,
        3 => metadata.namespace = Some(field.text("namespace")?),
        6 => metadata.resource_version = Some(field.text("resourceVersion")?),
        // That there is a time is all that is asked for.
        9 => metadata.deletion_timestamp = field.bytes("deletionTimestamp").map(|_| Some(Text::default()))?,
        11 => label(metadata.labels.get_or_insert_default(), field.entry("labels")?),
        12 => annotation(&mut metadata.annotations, field.entry("annotations")?),
        _ => {}
    }
    Ok(())
}

fn label<'a>(labels: &mut Labels<Text<'a>>, (key, value): (Text<'a>, Text<'a>)) {
    match &*key {
        LABEL_PROXY_NAME => labels.proxy_name = Some(value),
        LABEL_HEADLESS => labels.headless = Some(value),
        LABEL_SERVICE_NAME => labels.service_name = Some(value),
        LABEL_ZONE => labels.zone = Some(value),
        _ => {}
    }
}

fn annotation<'a>(annotations: &mut Option<Annotations<Text<'a>>>, (key, value): (Text<'a>, Text<'a>)) {
    if let Some(place) = Annotations::place(&key) {
        *place(annotations.get_or_insert_default()) = Some(value);
    }
}

/// `Service` of core/v1.
pub fn service<'a>(service: &mut Service<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => field.message("metadata", &mut service.metadata, metadata),
        2 => field.message("spec", service.spec.get_or_insert_default(), service_spec),
        3 => field.message("status", service.status.get_or_insert_default(), service_status),
        _ => Ok(()),
    }
}

fn service_spec<'a>(spec: &mut ServiceSpec<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => field.item("ports", &mut spec.ports, service_port)?,
        3 => spec.cluster_ip = Some(field.text("clusterIP")?),
        4 => spec.service_type = Some(field.text("type")?),
        5 => field.text_item("externalIPs", &mut spec.external_ips)?,
        7 => spec.session_affinity = Some(field.text("sessionAffinity")?),
        9 => field.text_item("loadBalancerSourceRanges", &mut spec.load_balancer_source_ranges)?,
        11 => spec.external_traffic_policy = Some(field.text("externalTrafficPolicy")?),
        12 => spec.health_check_node_port = Some(field.int32("healthCheckNodePort")?),
        14 => {
            let config = spec.session_affinity_config.get_or_insert_default();
            field.message("sessionAffinityConfig", config, affinity_config)?;
        }
        18 => field.text_item("clusterIPs", &mut spec.cluster_ips)?,
        19 => field.text_item("ipFamilies", &mut spec.ip_families)?,
        22 => spec.internal_traffic_policy = Some(field.text("internalTrafficPolicy")?),
        _ => {}
    }
    Ok(())
}

fn service_port<'a>(port: &mut ServicePort<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => port.name = Some(field.text("name")?),
        2 => port.protocol = Some(field.text("protocol")?),
        3 => port.port = field.int32("port")?,
        5 => port.node_port = Some(field.int32("nodePort")?),
        _ => {}
    }
    Ok(())
}

fn affinity_config(config: &mut SessionAffinityConfig, field: &Field<'_>) -> Filled {
    match field.number {
        1 => field.message("clientIP", config.client_ip.get_or_insert_default(), client_ip_config),
        _ => Ok(()),
    }
}

fn client_ip_config(config: &mut ClientIpConfig, field: &Field<'_>) -> Filled {
    if field.number == 1 {
        config.timeout_seconds = Some(field.int32("timeoutSeconds")?);
    }
    Ok(())
}

fn service_status<'a>(status: &mut ServiceStatus<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => field.message("loadBalancer", status.load_balancer.get_or_insert_default(), load_balancer_status),
        _ => Ok(()),
    }
}

fn load_balancer_status<'a>(status: &mut LoadBalancerStatus<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => field.item("ingress", &mut status.ingress, ingress),
        _ => Ok(()),
    }
}

fn ingress<'a>(ingress: &mut Ingress<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => ingress.ip = Some(field.text("ip")?),
        3 => ingress.ip_mode = Some(field.text("ipMode")?),
        _ => {}
    }
    Ok(())
}

/// `EndpointSlice` of discovery/v1.
pub fn slice<'a>(slice: &mut EndpointSlice<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => field.message("metadata", &mut slice.metadata, metadata)?,
        2 => field.item("endpoints", &mut slice.endpoints, endpoint)?,
        3 => field.item("ports", &mut slice.ports, slice_port)?,
        4 => slice.address_type = Some(field.text("addressType")?),
        _ => {}
    }
    Ok(())
}

fn slice_port<'a>(port: &mut SlicePort<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => port.name = Some(field.text("name")?),
        2 => port.protocol = Some(field.text("protocol")?),
        3 => port.port = Some(field.int32("port")?),
        _ => {}
    }
    Ok(())
}

fn endpoint<'a>(endpoint: &mut Endpoint<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => {
            let text = field.text("addresses")?;
            let First(first) = endpoint.addresses.get_or_insert_default();
            first.get_or_insert(text);
        }
        2 => field.message("conditions", endpoint.conditions.get_or_insert_default(), conditions)?,
        6 => endpoint.node_name = Some(field.text("nodeName")?),
        7 => endpoint.zone = Some(field.text("zone")?),
        8 => field.message("hints", endpoint.hints.get_or_insert_default(), hints)?,
        _ => {}
    }
    Ok(())
}

fn conditions(conditions: &mut EndpointConditions, field: &Field<'_>) -> Filled {
    match field.number {
        1 => conditions.ready = Some(field.flag("ready")?),
        2 => conditions.serving = Some(field.flag("serving")?),
        3 => conditions.terminating = Some(field.flag("terminating")?),
        _ => {}
    }
    Ok(())
}

fn hints<'a>(hints: &mut EndpointHints<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => field.item("forZones", &mut hints.for_zones, name_ref),
        2 => field.item("forNodes", &mut hints.for_nodes, name_ref),
        _ => Ok(()),
    }
}

/// `ForZone` and `ForNode`.
fn name_ref<'a>(reference: &mut NameRef<Text<'a>>, field: &Field<'a>) -> Filled {
    if field.number == 1 {
        reference.name = field.text("name")?;
    }
    Ok(())
}

/// `Node` of core/v1.
pub fn node<'a>(node: &mut Node<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => field.message("metadata", &mut node.metadata, metadata),
        2 => field.message("spec", node.spec.get_or_insert_default(), node_spec),
        3 => field.message("status", node.status.get_or_insert_default(), node_status),
        _ => Ok(()),
    }
}

fn node_spec<'a>(spec: &mut NodeSpec<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => spec.pod_cidr = Some(field.text("podCIDR")?),
        5 => field.item("taints", &mut spec.taints, taint)?,
        7 => field.text_item("podCIDRs", &mut spec.pod_cidrs)?,
        _ => {}
    }
    Ok(())
}

fn taint<'a>(taint: &mut Taint<Text<'a>>, field: &Field<'a>) -> Filled {
    if field.number == 1 {
        taint.key = field.text("key")?;
    }
    Ok(())
}

fn node_status<'a>(status: &mut NodeStatus<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        5 => field.item("addresses", &mut status.addresses, node_address),
        _ => Ok(()),
    }
}

fn node_address<'a>(address: &mut NodeAddress<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => address.address_type = field.text("type")?,
        2 => address.address = field.text("address")?,
        _ => {}
    }
    Ok(())
}

/// `ServiceCIDR` of networking/v1.
pub fn service_cidr<'a>(cidr: &mut ServiceCidr<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => field.message("metadata", &mut cidr.metadata, metadata),
        2 => field.message("spec", cidr.spec.get_or_insert_default(), service_cidr_spec),
        _ => Ok(()),
    }
}

fn service_cidr_spec<'a>(spec: &mut ServiceCidrSpec<Text<'a>>, field: &Field<'a>) -> Filled {
    match field.number {
        1 => field.text_item("cidrs", &mut spec.cidrs),
        _ => Ok(()),
    }
}
