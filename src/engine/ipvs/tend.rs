//! What is due by time alone: real servers that drain go with their last connection.

use std::time::Duration;

use super::{Kernel, order};
use crate::engine::backend::RepairError;
use crate::kernel::ipset::Sets;
use crate::kernel::ipvs::{Ipvs, VirtualServerKey};
use crate::kernel::link::Links;
use crate::kernel::xtables::Xtables;
use crate::plan::ipvs::{Planner, UnixSeconds};

/// What drains is looked at this often, or more seldom where that is much work.
pub(super) const TEND: Duration = Duration::from_secs(1);

impl<X: Xtables, S: Sets, L: Links, V: Ipvs> Kernel<X, S, L, V> {
    /// Looks at all that drains, and removes what no longer has connections or time. Tells of how many virtual servers
    /// something went.
    pub(super) fn tend(&mut self, planner: &mut Planner, now: UnixSeconds) -> Result<usize, RepairError> {
        let keys: Vec<VirtualServerKey> = planner.draining().keys().copied().collect();
        let mut changed = 0;
        for key in keys {
            let observed = self.servers.real_servers(&key)?;
            let due = planner.tend(&key, observed.as_ref(), now);
            order::apply(self, &due).map_err(|failure| failure.error)?;
            changed += due.servers.servers.len();
        }
        Ok(changed)
    }
}
