//! State → what load balancers are told of this node: which health check node ports there are and how many endpoints
//! stand behind each (contract 6.2), and whether the node wants traffic at all (contract 6.1).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cluster_ip::cluster_ip;
use super::frontends::Frontends;
use super::{Options, local_ready_count};
use crate::net::{ObjectName, PerFamily};
use crate::state::{State, Touched};

/// The health check node port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HealthPort {
    /// Never 0.
    pub port: u16,
    /// Distinct addresses of ready endpoints on this node; `None` in a family that the service is not proxied in. Not
    /// `None` in both.
    pub local: PerFamily<Option<usize>>,
}

/// A service whose health check node port is new, has another number or count, or is gone.
pub type Change = (ObjectName, Option<HealthPort>);

/// The health check node port of a service, if it has one: a load balancer with externalTrafficPolicy Local, which is
/// proxied in some family and has ports.
pub fn health_port(state: &State, name: &ObjectName, node_name: &str, options: &Options) -> Option<HealthPort> {
    let service = state.service(name)?;
    if service.ports.is_empty() {
        return None;
    }
    let is_served = |family| *options.families.get(family) && cluster_ip(service, family).is_some();
    let port = |family| Frontends::of(service, family, options).health_check_node_port;
    let local = PerFamily::new(|family| {
        (is_served(family) && port(family) != 0).then(|| local_ready_count(state, name, family, node_name))
    });
    let is_any = local.iter().any(|(_, count)| count.is_some());
    is_any.then_some(HealthPort { port: service.health_check_node_port, local })
}

/// Follows the health check node ports of all services, at the cost of what changes.
#[derive(Debug)]
pub struct HealthPorts {
    node_name: Arc<str>,
    options: Options,
    told: BTreeMap<ObjectName, HealthPort>,
    complete: bool,
}

impl HealthPorts {
    pub fn new(node_name: Arc<str>, options: Options) -> Self {
        HealthPorts { node_name, options, told: BTreeMap::new(), complete: false }
    }

    /// Another one goes on for this: it knows what was told, and tells what is different once its own state is ready.
    pub fn succeed(&mut self, by: HealthPorts) {
        let told = std::mem::take(&mut self.told);
        *self = HealthPorts { told, ..by };
    }

    /// What is different after a batch that touched these services. Nothing before the state is
    /// [ready](State::ready): a count that is still growing would send load balancers away.
    pub fn follow(&mut self, state: &State, touched: &Touched) -> Vec<Change> {
        if self.complete {
            return touched.services.iter().filter_map(|name| self.look_at(state, name)).collect();
        }
        if !state.ready() {
            return Vec::new();
        }
        self.complete = true;
        let before: Vec<ObjectName> = self.told.keys().filter(|name| state.service(name).is_none()).cloned().collect();
        state.service_names().chain(&before).filter_map(|name| self.look_at(state, name)).collect()
    }

    fn look_at(&mut self, state: &State, name: &ObjectName) -> Option<Change> {
        let new = health_port(state, name, &self.node_name, &self.options);
        let old = match new {
            Some(port) => self.told.insert(name.clone(), port),
            None => self.told.remove(name),
        };
        (new != old).then(|| (name.clone(), new))
    }
}

/// Whether load balancers should send to this node at all (contract 6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NodeEligibility {
    /// The Node object was never seen.
    #[default]
    Unknown,
    Eligible,
    /// The Node object has a deletionTimestamp, or the cluster autoscaler's taint.
    Leaving,
    /// The Node object is no more.
    Gone,
}

impl NodeEligibility {
    /// By the Node object as it is known.
    pub fn of(state: &State) -> NodeEligibility {
        match state.node() {
            None => NodeEligibility::Unknown,
            Some(_) if state.node_is_gone() => NodeEligibility::Gone,
            Some(node) if node.leaving => NodeEligibility::Leaving,
            Some(_) => NodeEligibility::Eligible,
        }
    }

    pub fn is_eligible(self) -> bool {
        self == NodeEligibility::Eligible
    }
}
