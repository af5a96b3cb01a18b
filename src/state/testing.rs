//! Small builders for facts in tests.

use std::sync::Arc;

use super::{
    ClusterIp, Conditions, EndpointSlice, Fact, FactKey, Hints, Kind, Location, Node, Service, ServicePort,
    ServiceType, SliceEndpoint, SlicePort, TrafficPolicy, Update,
};
use crate::net::{Family, ObjectName, Protocol};

/// Name, protocol and number of a port.
pub type Port<'a> = (&'a str, Protocol, u16);

/// `namespace/name`.
pub fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectName::new(namespace, name)
}

/// A plain ClusterIP service.
pub fn service(of: &str, cluster_ip: &str, ports: &[Port<'_>]) -> Service {
    let port = |(name, protocol, port): &Port<'_>| ServicePort {
        name: (*name).into(),
        protocol: *protocol,
        port: *port,
        node_port: 0,
    };
    Service {
        name: name(of),
        service_type: ServiceType::ClusterIp,
        cluster_ip: ClusterIp::Ip(cluster_ip.parse().unwrap()),
        cluster_ips: Box::default(),
        ip_families: Box::default(),
        ports: ports.iter().map(port).collect(),
        external_ips: Box::default(),
        load_balancer: Box::default(),
        source_ranges: Box::default(),
        affinity_seconds: None,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        health_check_node_port: 0,
        tuning: None,
    }
}

/// An IPv4 slice of a service in the same namespace.
pub fn slice(of: &str, service: &str, ports: &[Port<'_>], endpoints: &[SliceEndpoint]) -> EndpointSlice {
    let port = |(name, protocol, port): &Port<'_>| SlicePort { name: (*name).into(), protocol: *protocol, port: *port };
    EndpointSlice {
        name: name(of),
        service: service.into(),
        family: endpoints.first().map_or(Family::V4, |endpoint| Family::of(&endpoint.ip)),
        ports: ports.iter().map(port).collect(),
        endpoints: endpoints.into(),
        trigger_time: None,
    }
}

/// A ready endpoint on no known node, without hints.
pub fn endpoint(ip: &str) -> SliceEndpoint {
    SliceEndpoint::new(ip.parse().unwrap(), Conditions::default(), None, None)
}

/// Changes to an endpoint under construction.
pub trait Build {
    fn on(self, node: &str) -> Self;
    fn conditions(self, ready: bool, serving: bool, terminating: bool) -> Self;
    fn zones(self, zones: &[&str]) -> Self;
    fn nodes(self, nodes: &[&str]) -> Self;
    fn in_zone(self, zone: &str) -> Self;

    /// Neither ready nor serving nor terminating.
    fn unready(self) -> Self
    where
        Self: Sized,
    {
        self.conditions(false, false, false)
    }

    /// Still serving.
    fn terminating(self) -> Self
    where
        Self: Sized,
    {
        self.conditions(false, true, true)
    }
}

/// The endpoint with another location.
fn located(endpoint: SliceEndpoint, change: impl FnOnce(&mut Location, Hints)) -> SliceEndpoint {
    let mut location = endpoint.location.as_deref().cloned().unwrap_or_default();
    let hints = location.hints.as_deref().cloned().unwrap_or_default();
    change(&mut location, hints);
    SliceEndpoint { location: Some(Arc::new(location)), ..endpoint }
}

impl Build for SliceEndpoint {
    fn on(self, node: &str) -> Self {
        located(self, |location, _| location.node = Some(node.into()))
    }

    fn in_zone(self, zone: &str) -> Self {
        located(self, |location, _| location.zone = Some(zone.into()))
    }

    fn conditions(mut self, ready: bool, serving: bool, terminating: bool) -> Self {
        self.conditions = Conditions { ready, serving, terminating };
        self
    }

    fn zones(self, zones: &[&str]) -> Self {
        let zones = zones.iter().map(|zone| Arc::from(*zone)).collect();
        located(self, |location, hints| location.hints = Some(Arc::new(Hints { zones, ..hints })))
    }

    fn nodes(self, nodes: &[&str]) -> Self {
        let nodes = nodes.iter().map(|node| Arc::from(*node)).collect();
        located(self, |location, hints| location.hints = Some(Arc::new(Hints { nodes, ..hints })))
    }
}

/// A node in a zone.
pub fn node(name: &str, zone: Option<&str>) -> Node {
    Node { name: name.into(), zone: zone.map(Into::into), ..Node::default() }
}

pub fn upsert_service(service: &Service) -> Update {
    Update::Upsert(Fact::Service(service.clone()))
}

pub fn upsert_slice(slice: &EndpointSlice) -> Update {
    Update::Upsert(Fact::EndpointSlice(slice.clone()))
}

pub fn delete_service(of: &str) -> Update {
    Update::Delete(FactKey { kind: Kind::Service, name: name(of) })
}

pub fn delete_slice(of: &str) -> Update {
    Update::Delete(FactKey { kind: Kind::EndpointSlice, name: name(of) })
}
