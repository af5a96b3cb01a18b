//! Waiting for the Node object (contract 1.10).
//!
//! The API server is waited for as long as it takes. From its first list of Nodes on, our Node has some time to appear
//! and to have an address. Without, we go on with what is known: rules follow the Node once it comes. Where traffic of
//! pods is recognised by the networks of the node, these are waited for longer, and without them nothing begins: no rule
//! that needs them would be right, and whoever started us starts us again.

use std::fmt;
// A length of time, not a clock.
use core::time::Duration;

use crate::state::Node;

/// What the wait is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitsFor {
    /// The Node's name.
    pub node: String,
    /// Also for `spec.podCIDRs`: detectLocalMode is NodeCIDR.
    pub pod_cidrs: bool,
}

/// How long, after the first list of Nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until the Node is there and has an address.
    pub address: Duration,
    /// From then on, until it has pod networks.
    pub pod_cidrs: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { address: Duration::from_secs(30), pod_cidrs: Duration::from_secs(300) }
    }
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look again when the Node changes, and at this moment at the latest. `None`: there is no list yet.
    Wait { until: Option<Duration>, told: Option<Told> },
    /// Begin. What is told was waited for in vain.
    Go { told: Option<Told> },
    /// Give up.
    Fail(NodeTimeout),
}

/// A line for the log, once for each state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    WaitsForNode {
        node: String,
        at_most: Duration,
    },
    WaitsForAddress {
        node: String,
        at_most: Duration,
    },
    WaitsForPodCidrs {
        node: String,
        at_most: Duration,
    },
    /// The wait is over without a Node.
    NoNode {
        node: String,
    },
    /// The wait is over, and the Node has no address.
    NoAddress {
        node: String,
    },
}

impl Told {
    /// It is no longer waited for.
    pub fn is_warning(&self) -> bool {
        matches!(self, Told::NoNode { .. } | Told::NoAddress { .. })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::WaitsForNode { node, at_most } => write!(
                f,
                "waiting up to {at_most:?} for node {node:?} to exist: its name is the host's, or --hostname-override"
            ),
            Told::WaitsForAddress { node, at_most } => {
                write!(f, "waiting up to {at_most:?} for node {node:?} to be assigned IPs")
            }
            Told::WaitsForPodCidrs { node, at_most } => write!(
                f,
                "waiting up to {at_most:?} for PodCIDR allocation on node {node:?}, by which detectLocalMode NodeCIDR \
                 recognises pods"
            ),
            Told::NoNode { node } => write!(
                f,
                "there is no node {node:?}: going on without its addresses and zone, which are followed once it exists; \
                 check --hostname-override"
            ),
            Told::NoAddress { node } => write!(
                f,
                "node {node:?} has no addresses: going on without, they are followed once it is assigned some"
            ),
        }
    }
}

/// There are no pod networks in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeTimeout {
    #[error(
        "timeout waiting for node {0:?} to exist: check --hostname-override, or that the kubelet has registered it"
    )]
    Node(String),
    #[error(
        "timeout waiting for PodCIDR allocation on node {0:?}: let the controller manager allocate node CIDRs, or choose \
         another detectLocalMode"
    )]
    PodCidrs(String),
}

/// The wait. Moments are counted from any one on.
#[derive(Clone, Debug)]
pub struct Waiting {
    waits_for: WaitsFor,
    limits: Limits,
    phase: Phase,
    told: Option<Told>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until there is a list.
    List,
    Address {
        until: Duration,
    },
    PodCidrs {
        until: Duration,
        /// The node has no address, and that is how it is.
        without_address: bool,
    },
}

impl Waiting {
    pub fn new(waits_for: WaitsFor, limits: Limits) -> Self {
        Waiting { waits_for, limits, phase: Phase::List, told: None }
    }

    /// What to do at this moment, by what is known of the Node. `listed`: the API server has told all there is.
    pub fn look(&mut self, now: Duration, listed: bool, node: Option<&Node>) -> Step {
        if self.phase == Phase::List && listed {
            self.phase = Phase::Address { until: now.saturating_add(self.limits.address) };
        }
        let has_address = node.is_some_and(|node| !node.ips.is_empty());
        if let Phase::Address { until } = self.phase {
            if !has_address && now < until {
                return self.wait(Some(until), self.address_told(node));
            }
            let until = now.saturating_add(self.limits.pod_cidrs);
            self.phase = Phase::PodCidrs { until, without_address: !has_address };
        }
        match self.phase {
            Phase::PodCidrs { until, without_address } => self.pod_cidrs(now, until, without_address, node),
            Phase::List | Phase::Address { .. } => self.wait(None, None),
        }
    }

    fn pod_cidrs(&mut self, now: Duration, until: Duration, without_address: bool, node: Option<&Node>) -> Step {
        let name = self.waits_for.node.clone();
        let missing = self.waits_for.pod_cidrs && node.is_none_or(|node| node.pod_cidrs.is_empty());
        match node {
            _ if missing && now < until => {
                let told = Told::WaitsForPodCidrs { node: name, at_most: self.limits.pod_cidrs };
                self.wait(Some(until), Some(told))
            }
            None if missing => Step::Fail(NodeTimeout::Node(name)),
            Some(_) if missing => Step::Fail(NodeTimeout::PodCidrs(name)),
            None => Step::Go { told: Some(Told::NoNode { node: name }) },
            Some(node) if without_address && node.ips.is_empty() => {
                Step::Go { told: Some(Told::NoAddress { node: name }) }
            }
            Some(_) => Step::Go { told: None },
        }
    }

    fn address_told(&self, node: Option<&Node>) -> Option<Told> {
        let (name, at_most) = (self.waits_for.node.clone(), self.limits.address);
        Some(match node {
            None => Told::WaitsForNode { node: name, at_most },
            Some(_) => Told::WaitsForAddress { node: name, at_most },
        })
    }

    /// The same state is not told again.
    fn wait(&mut self, until: Option<Duration>, told: Option<Told>) -> Step {
        let news = told.clone().filter(|_| told != self.told);
        self.told = told;
        Step::Wait { until, told: news }
    }
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
