//! Which endpoints may be clients of their own here, and need a chain for it.
//!
//! An endpoint that reaches itself through its service must not see its own address as the client's: it would answer
//! itself. kube-proxy gives every endpoint a chain that marks what comes from the endpoint itself, and then sends it
//! there. The mark also lets the packet through KUBE-FORWARD, and past whatever an administrator or a network policy
//! says behind it. That is why a masquerade rule after the fact, for packets whose source has become their
//! destination, would not be the same: without the mark, the packet may not get that far.
//!
//! So the chain stays, but only where it can do something. Of an endpoint on another node, packets reach this node's
//! rules in these ways alone:
//!
//! * For a node port, an external IP or a VIP. With the Cluster policy they are marked whoever sent them. With the Local
//!   policy they can be sent to this node's endpoints only, unless the detector takes every pod of the cluster for a
//!   local one: then they can be sent to all endpoints, unmarked. [`is_possible`] knows that case.
//! * For a cluster IP, not at all: the other node has sent them to an endpoint already. (It may run no proxy. Then its
//!   pods cannot use services: whoever answers does so directly, under an address that the pod did not ask.)
//!
//! The rule for such an endpoint is itself the DNAT, and the service's chain is all that it has. What an endpoint's
//! chain would have added is a rule that no packet matches.

use crate::model::{EndpointFlags, LocalDetector, ModelEndpoint, ServicePort, Settings};
use crate::state::TrafficPolicy;

/// Whether a packet may come by that the endpoint sent and that could be sent back to it without being marked for
/// masquerade before: always, if we do not know that it is on another node.
pub fn is_possible(port: &ServicePort, settings: &Settings, endpoint: &ModelEndpoint) -> bool {
    let counts_as_local = || match settings.detector.get(port.family()) {
        LocalDetector::Cidr(net) => net.contains(&endpoint.endpoint.ip),
        // Other nodes' pods come in by an interface that is no pod's.
        LocalDetector::None | LocalDetector::Interface(_) | LocalDetector::InterfacePrefix(_) => false,
    };
    !endpoint.flags.contains(EndpointFlags::ELSEWHERE)
        || (port.external_policy == TrafficPolicy::Local && port.externally_accessible() && counts_as_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Endpoint, ObjectName, Protocol, ServicePortName};

    fn port(external_policy: TrafficPolicy, node_port: u16) -> ServicePort {
        let name = ServicePortName::new(ObjectName::new("ns", "a"), "http", Protocol::Tcp);
        ServicePort {
            node_port,
            external_policy,
            has_any_endpoint: true,
            ..ServicePort::new(
                crate::model::ServicePortKey { family: crate::net::Family::V4, name },
                [10, 96, 0, 1].into(),
                80,
            )
        }
    }

    #[test]
    fn who_may_be_its_own_client() {
        use TrafficPolicy::{Cluster, Local};
        let cidr = |text: &str| LocalDetector::Cidr(text.parse().unwrap());
        let (all_pods, own_pods) = (cidr("10.244.0.0/16"), cidr("10.244.1.0/24"));
        let elsewhere = EndpointFlags::CLUSTER.with(EndpointFlags::ELSEWHERE);
        for (case, flags, policy, node_port, detector, expected) in [
            ("here", EndpointFlags::ON_NODE, Cluster, 0, &LocalDetector::None, true),
            ("nobody knows where", EndpointFlags::CLUSTER, Cluster, 30000, &own_pods, true),
            ("elsewhere, cluster IP only", elsewhere, Cluster, 0, &all_pods, false),
            ("elsewhere, Cluster policy", elsewhere, Cluster, 30000, &all_pods, false),
            ("elsewhere, Local policy, all pods count as local", elsewhere, Local, 30000, &all_pods, true),
            ("elsewhere, Local policy, own pods count as local", elsewhere, Local, 30000, &own_pods, false),
            (
                "elsewhere, Local policy, by interface",
                elsewhere,
                Local,
                30000,
                &LocalDetector::Interface("a".into()),
                false,
            ),
            ("elsewhere, Local policy, no detector", elsewhere, Local, 30000, &LocalDetector::None, false),
            ("elsewhere, Local policy, no way in from outside", elsewhere, Local, 0, &all_pods, false),
        ] {
            let mut settings = Settings::default();
            settings.detector.v4 = detector.clone();
            let endpoint = ModelEndpoint::new(Endpoint::new([10, 244, 2, 3].into(), 80), flags);
            assert_eq!(is_possible(&port(policy, node_port), &settings, &endpoint), expected, "{case}");
        }
    }
}
