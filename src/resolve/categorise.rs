//! Which endpoints each traffic policy uses on this node (contract 2.5).

use super::NodeContext;
use super::endpoints::Merged;
use super::topology::Topology;
use crate::model::{EndpointFlags, ModelEndpoint};
use crate::state::Weights;

/// Which lists a service port needs.
#[derive(Clone, Copy, Debug)]
pub struct Uses {
    pub cluster: bool,
    pub local: bool,
}

/// The endpoints that a policy uses, or that still serve, with what they may be used for; in the order given.
///
/// Either policy takes ready endpoints, and only where it has none those that serve while they terminate. The Cluster
/// policy narrows the ready ones down by topology hints; the Local policy takes those on this node.
///
/// What they weigh, `weights` says by where they are; they are equal without.
///
/// An endpoint counts as elsewhere only if the API server knows our node by the name that we give it
/// (`node_is_known`): a node under a wrong name finds every endpoint on some other node, its own too.
pub fn categorise(
    merged: &[Merged<'_>],
    uses: Uses,
    node: &NodeContext,
    node_is_known: bool,
    weights: Option<&Weights>,
) -> Box<[ModelEndpoint]> {
    let ready = merged.iter().filter(|m| m.is_ready());
    let any_ready = ready.clone().next().is_some();
    let any_local_ready = ready.clone().any(|m| m.on_node);
    let topology = if uses.cluster { Topology::of(ready, node) } else { Topology::Anywhere };

    let in_cluster_list =
        |m: &Merged<'_>| if any_ready { m.is_ready() && topology.admits(m, node) } else { m.is_fallback() };
    let in_local_list = |m: &Merged<'_>| m.on_node && if any_local_ready { m.is_ready() } else { m.is_fallback() };

    let kept = merged.iter().filter_map(|m| {
        let mut flags = EndpointFlags::default();
        for (holds, flag) in [
            (uses.cluster && in_cluster_list(m), EndpointFlags::CLUSTER),
            (uses.local && in_local_list(m), EndpointFlags::LOCAL),
            (m.on_node, EndpointFlags::ON_NODE),
            (node_is_known && !m.on_node && m.fact.node().is_some(), EndpointFlags::ELSEWHERE),
            (m.is_ready(), EndpointFlags::READY),
            (m.is_ready() || m.is_fallback(), EndpointFlags::SERVING),
        ] {
            if holds {
                flags = flags.with(flag);
            }
        }
        // Whatever is in a list is serving.
        let weight = weights.map_or(Weights::DEFAULT, |weights| weights.of(m.fact.location.as_deref()));
        flags.contains(EndpointFlags::SERVING).then_some(ModelEndpoint { endpoint: m.endpoint, flags, weight })
    });
    kept.collect()
}
