//! What a node in IPVS mode differs by, of all object families.

use crate::kernel::{ipset, ipvs, link, xtables};

/// A difference: the only thing that is applied, and what `weir diff` prints. In which order the families take their
/// turns is the engine's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub sets: ipset::Changes,
    pub rules: xtables::Changes,
    pub links: link::Changes,
    pub servers: ipvs::Changes,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.rules.is_empty() && self.links.is_empty() && self.servers.is_empty()
    }
}
