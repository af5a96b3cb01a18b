//! Which ready endpoints are near enough, by the hints on them (contract 2.6).

use super::NodeContext;
use super::endpoints::Merged;
use crate::state::Hints;

/// How the endpoints of the Cluster policy are narrowed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Not at all.
    Anywhere,
    /// To those hinted for this node.
    SameNode,
    /// To those hinted for this node's zone.
    SameZone,
}

impl Topology {
    /// The narrowest that the hints allow. A kind of hint counts only if every ready endpoint has it and one is for us:
    /// hints that are half written, or leave us with nothing, must not take endpoints away.
    pub fn of<'a>(ready: impl Iterator<Item = &'a Merged<'a>> + Clone, node: &NodeContext) -> Topology {
        let all = |has: fn(&Hints) -> bool| ready.clone().all(|m| m.fact.hints().is_some_and(has));
        for (topology, is_hinted) in [
            (Topology::SameNode, (|hints| !hints.nodes.is_empty()) as fn(&Hints) -> bool),
            (Topology::SameZone, |hints| !hints.zones.is_empty()),
        ] {
            if all(is_hinted) && ready.clone().any(|m| topology.admits(m, node)) {
                return topology;
            }
        }
        Topology::Anywhere
    }

    /// Whether the endpoint is near enough.
    pub fn admits(self, endpoint: &Merged<'_>, node: &NodeContext) -> bool {
        let hints = endpoint.fact.hints();
        match self {
            Topology::Anywhere => true,
            Topology::SameNode => hints.is_some_and(|hints| hints.nodes.contains(&node.name)),
            Topology::SameZone => {
                let zone = node.zone.as_ref().filter(|zone| !zone.is_empty());
                zone.is_some_and(|zone| hints.is_some_and(|hints| hints.zones.contains(zone)))
            }
        }
    }
}
