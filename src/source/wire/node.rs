//! Nodes.

use std::net::IpAddr;
use std::ops::Deref;

use serde::Deserialize;

use super::names::Interner;
use super::problems::{Problem, Problems};
use super::{Metadata, TAINT_TO_BE_DELETED};
use crate::net::{ObjectName, parse_ip};
use crate::state;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct Node<S = String> {
    pub kind: Option<S>,
    pub metadata: Metadata<S>,
    #[serde(default)]
    pub spec: Option<NodeSpec<S>>,
    #[serde(default)]
    pub status: Option<NodeStatus<S>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct NodeSpec<S = String> {
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<S>,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Option<Vec<S>>,
    pub taints: Option<Vec<Taint<S>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct Taint<S = String> {
    pub key: S,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct NodeStatus<S = String> {
    pub addresses: Option<Vec<NodeAddress<S>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct NodeAddress<S = String> {
    #[serde(rename = "type")]
    pub address_type: S,
    pub address: S,
}

impl<S: Deref<Target = str> + Default> Node<S> {
    /// The fact, and what had to be left out.
    pub fn to_fact(&self, names: &mut Interner) -> (state::Node, Vec<Problem>) {
        let name = ObjectName::new("", names.intern(&self.metadata.name));
        let mut problems = Problems::new("Node", &name);
        let default_spec = NodeSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&default_spec);
        let mut pod_cidrs = problems.cidrs("spec.podCIDRs", spec.pod_cidrs.as_deref());
        if pod_cidrs.is_empty() {
            pod_cidrs = problems.cidrs("spec.podCIDR", spec.pod_cidr.as_ref().map(std::slice::from_ref));
        }
        let zone = self.metadata.labels.as_ref().and_then(|labels| labels.zone.as_deref());
        let fact = state::Node {
            zone: zone.filter(|zone| !zone.is_empty()).map(|zone| names.intern(zone)),
            ips: node_ips(self.status.as_ref(), &mut problems),
            pod_cidrs: pod_cidrs.into(),
            leaving: self.metadata.deletion_timestamp.is_some()
                || spec.taints.iter().flatten().any(|taint| *taint.key == *TAINT_TO_BE_DELETED),
            name: name.name.clone(),
        };
        (fact, problems.found)
    }
}

/// InternalIPs first, then ExternalIPs (contract 1.10).
fn node_ips<S: Deref<Target = str>>(status: Option<&NodeStatus<S>>, problems: &mut Problems<'_>) -> Box<[IpAddr]> {
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let mut ips = Vec::new();
    for wanted in ["InternalIP", "ExternalIP"] {
        for (i, address) in addresses.iter().enumerate().filter(|(_, address)| *address.address_type == *wanted) {
            match parse_ip(&address.address) {
                Some(ip) => ips.push(ip),
                None => {
                    let field = format!("status.addresses[{i}].address");
                    problems.add(field, &*address.address, "an IPv4 or IPv6 address");
                }
            }
        }
    }
    ips.into()
}
