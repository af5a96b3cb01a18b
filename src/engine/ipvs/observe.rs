//! Looking at the kernel.

use super::Kernel;
use crate::kernel::ObserveError;
use crate::kernel::ipset::Sets;
use crate::kernel::ipvs::Ipvs;
use crate::kernel::link::Links;
use crate::kernel::xtables::{Changes, Table, Xtables};
use crate::net::Family;
use crate::plan::iptables::Desired;
use crate::plan::ipvs::{Observed, is_our_set};

impl<X: Xtables, S: Sets, L: Links, V: Ipvs> Kernel<X, S, L, V> {
    /// Everything but rules.
    pub(super) fn observe(&mut self, families: &[Family]) -> Result<Observed, ObserveError> {
        let mut observed = self.observe_sets_and_device()?;
        for family in families {
            self.servers.observe(*family, &mut |server| observed.servers.push(server))?;
        }
        Ok(observed)
    }

    /// What a node has that does without virtual servers. Asking for those would load IPVS into a kernel that may never
    /// need it.
    pub(super) fn observe_sets_and_device(&mut self) -> Result<Observed, ObserveError> {
        let device = self.links.observe()?;
        let mut sets = Vec::new();
        self.sets.observe(&is_our_set, &mut |set| sets.push(set))?;
        Ok(Observed { sets, device, servers: Vec::new() })
    }

    /// Rules against these wanted ones.
    pub(super) fn compare_rules(&mut self, desired: Desired, families: &[Family]) -> Result<Changes, ObserveError> {
        let mut comparison = desired.compare();
        for family in families {
            for table in Table::ALL {
                self.rules.observe(*family, table, &mut |chain| comparison.observed(*family, table, chain))?;
            }
        }
        Ok(comparison.finish())
    }
}
