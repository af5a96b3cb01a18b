//! Looking at the kernel.

use super::Kernel;
use crate::kernel::ObserveError;
use crate::kernel::ipset::Sets;
use crate::kernel::ipvs::{Ipvs, ObservedVirtualServer};
use crate::kernel::link::Links;
use crate::kernel::xtables::{Changes, Xtables, observe_all};
use crate::net::Family;
use crate::plan::iptables::Desired;
use crate::plan::ipvs::{Observed, is_our_set};

/// What a node has that does without virtual servers. Asking for those would load IPVS into a kernel that may never need
/// it.
///
/// # Errors
/// Those of [`Sets::observe`] and [`Links::observe`].
pub fn observe_sets_and_device(
    sets: &mut (impl Sets + ?Sized),
    links: &mut (impl Links + ?Sized),
) -> Result<Observed, ObserveError> {
    let device = links.observe()?;
    let mut found = Vec::new();
    sets.observe(&is_our_set, &mut |set| found.push(set))?;
    Ok(Observed { sets: found, device, servers: Vec::new() })
}

/// All virtual servers of these families.
///
/// # Errors
/// Those of [`Ipvs::observe`].
pub fn observe_servers(
    servers: &mut (impl Ipvs + ?Sized),
    families: &[Family],
) -> Result<Vec<ObservedVirtualServer>, ObserveError> {
    let mut found = Vec::new();
    for family in families {
        servers.observe(*family, &mut |server| found.push(server))?;
    }
    Ok(found)
}

impl<X: Xtables, S: Sets, L: Links, V: Ipvs> Kernel<X, S, L, V> {
    /// Everything but rules.
    pub(super) fn observe(&mut self, families: &[Family]) -> Result<Observed, ObserveError> {
        let mut observed = self.observe_sets_and_device()?;
        observed.servers = observe_servers(&mut self.servers, families)?;
        Ok(observed)
    }

    /// See [`observe_sets_and_device`].
    pub(super) fn observe_sets_and_device(&mut self) -> Result<Observed, ObserveError> {
        observe_sets_and_device(&mut self.sets, &mut self.links)
    }

    /// Rules against these wanted ones.
    pub(super) fn compare_rules(&mut self, desired: Desired, families: &[Family]) -> Result<Changes, ObserveError> {
        let mut comparison = desired.compare();
        observe_all(&mut self.rules, families, &mut |family, table, chain| comparison.observed(family, table, chain))?;
        Ok(comparison.finish())
    }
}
