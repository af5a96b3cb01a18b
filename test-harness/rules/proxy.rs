//! Both modes, for judges that do not care which.

use std::sync::Arc;

use weir::kernel::xtables::variant::Variant;
use weir::model::oracle::Mode;
use weir::model::{ServicePort, ServicePortKey, Settings};
use weir::net::Family;
use weir::plan::Move;
use weir::sim::trace::Ruleset;

/// A proxy over a simulated kernel, without an engine: what is planned is applied.
pub trait Proxy: Sized {
    const MODE: Mode;

    /// From an empty kernel to these services in one step.
    fn start(variant: Variant, settings: &Arc<Settings>, model: Vec<Arc<ServicePort>>) -> Self;

    /// On to another model by the smallest change.
    fn go_on(&mut self, model: Vec<Arc<ServicePort>>);

    /// What the kernel holds now; it must be something that a real kernel takes (row J18).
    fn rules(&mut self, family: Family) -> Ruleset;
}

/// The steps from one model to another. Both are sorted by key.
pub fn moves(before: &[Arc<ServicePort>], after: &[Arc<ServicePort>]) -> Vec<Move> {
    let find = |model: &[Arc<ServicePort>], key: &ServicePortKey| {
        model.binary_search_by(|port| port.key.cmp(key)).ok().map(|at| model[at].clone())
    };
    let mut keys: Vec<&ServicePortKey> = before.iter().chain(after).map(|port| &port.key).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .map(|key| Move { before: find(before, key), after: find(after, key) })
        .filter(|m| m.before != m.after)
        .collect()
}
