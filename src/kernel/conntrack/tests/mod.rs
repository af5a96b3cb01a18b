//! Service ports and flows for the tests here.

mod codec;
mod judge;
mod worker;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Cleanup, Flow, NodePortScope, Tuple, Zone};
use crate::model::oracle::Host;
use crate::model::{EndpointFlags, ModelEndpoint, ServicePort, ServicePortKey, Settings};
use crate::net::{Endpoint, Family, ObjectName, Protocol, ServicePortName};
use crate::plan::Move;

/// `10.0.0.1:80` or `[fd00::1]:80`.
fn at(text: &str) -> Endpoint {
    let address: SocketAddr = text.parse().unwrap();
    Endpoint::new(address.ip(), address.port())
}

fn ips(texts: &[&str]) -> Box<[IpAddr]> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A UDP service port `ns/NAME:p` at a cluster IP and port, with serving endpoints.
fn udp(name: &str, cluster: &str, endpoints: &[&str]) -> ServicePort {
    let cluster = at(cluster);
    ServicePort {
        endpoints: endpoints
            .iter()
            .map(|text| ModelEndpoint {
                weight: 1,
                endpoint: at(text),
                flags: EndpointFlags::SERVING.with(EndpointFlags::CLUSTER),
            })
            .collect(),
        has_any_endpoint: !endpoints.is_empty(),
        ..ServicePort::new(
            ServicePortKey {
                family: Family::of(&cluster.ip),
                name: ServicePortName::new(ObjectName::new("ns", name), "p", Protocol::Udp),
            },
            cluster.ip,
            cluster.port,
        )
    }
}

fn moved(before: Option<&ServicePort>, after: Option<&ServicePort>) -> Move {
    Move { before: before.cloned().map(Arc::new), after: after.cloned().map(Arc::new) }
}

/// All node ports on 192.0.2.1 and 2001:db8::1, and on loopback where the settings' default has it.
fn scope() -> Arc<NodePortScope> {
    let host = Host { addresses: ips(&["192.0.2.1", "2001:db8::1", "127.0.0.1", "::1"]).into() };
    Arc::new(NodePortScope::new(&Settings::default(), &host))
}

/// What one move makes stale where only `after` is in force.
fn cleanup(before: Option<&ServicePort>, after: Option<&ServicePort>) -> Cleanup {
    Cleanup::of_moves(&[moved(before, after)], after, &scope())
}

/// A UDP flow to a destination, answered by an endpoint (or by the destination itself).
fn flow(destination: &str, answered_by: &str) -> Flow {
    let (destination, answered_by) = (at(destination), at(answered_by));
    let family = Family::of(&destination.ip);
    let client = match family {
        Family::V4 => at("10.9.9.9:40000"),
        Family::V6 => at("[fd09::9]:40000"),
    };
    Flow {
        family,
        protocol: Protocol::Udp.number(),
        zone: Zone::Default,
        id: 1,
        status: 0,
        original: Tuple { source: client, destination },
        reply: Tuple { source: answered_by, destination: client },
    }
}
