//! What iptables mode has of other object families: the sets of node egress, and what IPVS mode left on the node.
//!
//! A node that is switched from IPVS to iptables is served by the new mode first; then virtual servers, addresses, sets
//! and the device go, each virtual server when its last connection is over. That is no clean-up code: it is the
//! comparison of a plan of nothing with what the kernel holds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::order;
use super::tend::TEND;
use super::{IpvsHooks, Kernel};
use crate::engine::backend::{Backend, Repair, RepairError, RepairMode, Standing};
use crate::engine::iptables::{SharedSettings, current};
use crate::kernel::ipset::{self, SetChange, Sets};
use crate::kernel::ipvs::{self, Ipvs, ObservedRealServer, ObservedVirtualServer, Scheduler, VirtualServerKey};
use crate::kernel::link::{Device, Links};
use crate::kernel::xtables::{Changes, ObservedChain, Scope, Table, Xtables};
use crate::kernel::{ApplyError, ApplyErrorKind, ObserveError};
use crate::model::{ServicePort, ServicePortKey};
use crate::net::{Endpoint, Family};
use crate::plan::ipvs::{Goal, Observed, Planner, compare};
use crate::plan::{Move, egress};

/// How far the leftovers of IPVS mode are gone.
enum Leftovers {
    /// Nobody has looked since rules were compared last.
    Unknown,
    /// These virtual servers wait for their last connections.
    Draining(Box<Planner>),
    None,
}

/// A backend of another mode, with what it needs beside rules.
pub struct WithCompanion<B, S, L, V> {
    backend: B,
    kernel: Kernel<NoRules, S, L, Lazy<V>>,
    settings: SharedSettings,
    families: Vec<Family>,
    hooks: IpvsHooks,
    leftovers: Leftovers,
    /// The node's own connections to addresses that IPVS mode left no longer begin at these.
    sources_settled: bool,
    /// The backend serves: what another mode left may go.
    serves: bool,
}

impl<B: Backend, S: Sets, L: Links, V: Ipvs> WithCompanion<B, S, L, V> {
    /// IPVS is opened only if something tells that IPVS mode was here: asking for it would load it.
    pub fn new(
        backend: B,
        (sets, links): (S, L),
        open: impl FnMut() -> Result<V, ObserveError> + Send + 'static,
        settings: SharedSettings,
        families: Vec<Family>,
    ) -> Self {
        let servers = Lazy { open: Box::new(open), opened: None };
        let kernel = Kernel { rules: NoRules, sets, links, servers };
        let hooks = IpvsHooks::default();
        let leftovers = Leftovers::Unknown;
        WithCompanion { backend, kernel, settings, families, hooks, leftovers, sources_settled: false, serves: false }
    }

    /// Makes the sets that rules of this mode look up hold what they should.
    fn prepare(&mut self) -> Result<(), ApplyError> {
        let settings = current(&self.settings);
        let wanted: BTreeMap<_, _> = self
            .families
            .iter()
            .filter_map(|family| egress::set(&settings, *family))
            .map(|(n, s, e)| (n, (s, e)))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut observed = Vec::new();
        self.kernel
            .sets
            .observe(&|name| wanted.keys().any(|set| set.as_str() == name), &mut |set| observed.push(set))
            .map_err(|error| ApplyError { kind: ApplyErrorKind::Busy, message: error.message, chain: None })?;
        let ipset::Compared { changes, mismatches } = ipset::compare(&wanted, &observed, &|_| false);
        if let Some(mismatch) = mismatches.first() {
            return Err(ApplyError { kind: ApplyErrorKind::Unavailable, message: mismatch.to_string(), chain: None });
        }
        if changes.is_empty() { Ok(()) } else { self.kernel.sets.apply(&changes) }
    }

    /// Sets that are no longer looked up.
    fn drop_unused_sets(&mut self) -> Result<(), RepairError> {
        if current(&self.settings).egress.is_some() {
            return Ok(());
        }
        let names = Family::ALL.map(egress::set_name);
        let mut changes = ipset::Changes::default();
        let is_egress = |name: &str| names.iter().any(|set| set.as_str() == name);
        self.kernel.sets.observe(&is_egress, &mut |set| {
            let before = set.spec.ok();
            changes.sets.insert(set.name, SetChange { before, ..SetChange::default() });
        })?;
        if !changes.is_empty() {
            self.kernel.sets.apply(&changes)?;
        }
        Ok(())
    }

    /// Once, before rules lead the first connection away from IPVS: lets the node's own connections to addresses that
    /// IPVS mode left begin at an address of the node. They would begin at the service address, which is local as long as
    /// connections of IPVS drain, and when it goes no answer would come back to who outlives it.
    fn settle_sources(&mut self) {
        if std::mem::replace(&mut self.sources_settled, true) {
            return;
        }
        if let Err(why) = self.prefer_own_sources() {
            tracing::warn!(
                %why,
                "IPVS mode was here: connections of the node itself to service addresses may break when these go"
            );
        }
    }

    fn prefer_own_sources(&mut self) -> Result<(), String> {
        let links = &mut self.kernel.links;
        let Device::Dummy { addresses } = links.observe().map_err(|error| error.message)? else { return Ok(()) };
        let settings = current(&self.settings);
        let mut lacking = Vec::new();
        let mut sources = BTreeMap::new();
        for family in self.families.iter().copied() {
            let mut held = addresses.iter().filter(|address| Family::of(address) == family).peekable();
            if held.peek().is_none() {
                continue;
            }
            match own_source(links, *settings.node_ips.get(family), family).map_err(|error| error.message)? {
                Some(source) => sources.extend(held.map(|address| (*address, source))),
                None => lacking.push(family.as_str()),
            }
        }
        links.prefer_sources(&sources).map_err(|error| error.message)?;
        if !sources.is_empty() {
            tracing::info!(addresses = sources.len(), "what the node sends to addresses of IPVS mode is from the node");
        }
        match lacking.as_slice() {
            [] => Ok(()),
            families => Err(format!("the node has no address of its own to send from: {}", families.join(", "))),
        }
    }

    /// Looks for leftovers, and begins to remove them.
    fn look(&mut self) -> Result<Leftovers, RepairError> {
        let observed = self.kernel.observe_sets_and_device()?;
        if !has_leftovers(&observed) {
            return Ok(Leftovers::None);
        }
        let observed = Observed { servers: self.kernel.observe(&self.families)?.servers, ..observed };
        let settings = current(&self.settings);
        let now = (self.hooks.clock)();
        let (difference, planner) = compare(&settings, &self.families, Goal::Retire, &observed, &|_| false, now);
        tracing::info!(
            virtual_servers = difference.servers.servers.len(),
            draining = planner.draining().len(),
            "IPVS mode was here: what it left goes"
        );
        order::apply(&mut self.kernel, &difference).map_err(|failure| failure.error)?;
        Ok(if planner.draining().is_empty() { Leftovers::None } else { Leftovers::Draining(Box::new(planner)) })
    }
}

impl<B: Backend, S: Sets, L: Links, V: Ipvs> Backend for WithCompanion<B, S, L, V> {
    fn apply(&mut self, moves: &[Move]) -> Result<(), ApplyError> {
        self.backend.apply(moves)
    }

    fn repair(&mut self, model: &[Arc<ServicePort>], scope: &Scope, mode: RepairMode) -> Result<Repair, RepairError> {
        let is_whole = *scope == Scope::All && mode == RepairMode::Repair;
        if is_whole {
            self.prepare()?;
            self.settle_sources();
        }
        let repair = self.backend.repair(model, scope, mode)?;
        if is_whole {
            self.serves = true;
            if matches!(self.leftovers, Leftovers::None) {
                self.leftovers = Leftovers::Unknown;
            }
        }
        Ok(repair)
    }

    fn forget(&mut self) {
        self.backend.forget();
    }

    fn suspect(&self, error: &ApplyError) -> Option<ServicePortKey> {
        self.backend.suspect(error)
    }

    fn tend(&mut self) -> Result<(), RepairError> {
        match std::mem::replace(&mut self.leftovers, Leftovers::Unknown) {
            Leftovers::Unknown => {
                self.drop_unused_sets()?;
                self.leftovers = self.look()?;
            }
            Leftovers::Draining(mut planner) => {
                let drained = self.kernel.tend(&mut planner, (self.hooks.clock)());
                // Once all are gone, another look takes what held them.
                if !planner.draining().is_empty() {
                    self.leftovers = Leftovers::Draining(planner);
                }
                drained?;
            }
            Leftovers::None => self.leftovers = Leftovers::None,
        }
        Ok(())
    }

    fn standing(&self) -> Standing {
        let draining = match &self.leftovers {
            Leftovers::Draining(planner) => planner.draining_count(),
            Leftovers::Unknown | Leftovers::None => 0,
        };
        Standing { draining, ..self.backend.standing() }
    }

    fn rest(&self) -> Option<Duration> {
        match self.leftovers {
            Leftovers::Unknown if self.serves => Some(Duration::ZERO),
            Leftovers::Draining(_) => Some(TEND),
            Leftovers::Unknown | Leftovers::None => None,
        }
    }
}

/// The address from which the node begins what goes to service addresses, when no device has them: the one by which it
/// sends far away, else the one that the cluster knows it by.
fn own_source(links: &mut impl Links, node_ip: Option<IpAddr>, family: Family) -> Result<Option<IpAddr>, ObserveError> {
    match (links.outbound_source(family)?, node_ip) {
        (Some(source), _) => Ok(Some(source)),
        (None, Some(node_ip)) => Ok(links.other_addresses(family)?.contains(&node_ip).then_some(node_ip)),
        (None, None) => Ok(None),
    }
}

/// Whether IPVS mode was here: sets that only it has, or its device. Those of node egress are of every mode.
pub fn has_leftovers(observed: &Observed) -> bool {
    let egress = Family::ALL.map(egress::set_name);
    observed.sets.iter().any(|set| !egress.contains(&set.name)) || matches!(observed.device, Device::Dummy { .. })
}

/// Rules are the backend's own business.
#[derive(Debug)]
struct NoRules;

impl Xtables for NoRules {
    fn observe(&mut self, _: Family, _: Table, _: &mut dyn FnMut(ObservedChain)) -> Result<(), ObserveError> {
        Ok(())
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        debug_assert!(changes.is_empty(), "a plan without rules changes none");
        Ok(())
    }
}

type Open<V> = Box<dyn FnMut() -> Result<V, ObserveError> + Send>;

/// IPVS, opened when it is first needed.
struct Lazy<V> {
    open: Open<V>,
    opened: Option<V>,
}

impl<V: Ipvs> Lazy<V> {
    fn get(&mut self) -> Result<&mut V, ObserveError> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => (self.open)()?,
        };
        Ok(self.opened.insert(opened))
    }
}

impl<V: Ipvs> Ipvs for Lazy<V> {
    fn observe(&mut self, family: Family, visit: &mut dyn FnMut(ObservedVirtualServer)) -> Result<(), ObserveError> {
        self.get()?.observe(family, visit)
    }

    fn real_servers(
        &mut self,
        key: &VirtualServerKey,
    ) -> Result<Option<BTreeMap<Endpoint, ObservedRealServer>>, ObserveError> {
        self.get()?.real_servers(key)
    }

    fn apply(&mut self, changes: &ipvs::Changes) -> Result<(), ipvs::Refused> {
        let opened = self.get().map_err(|error| {
            let error = ApplyError { kind: ApplyErrorKind::Unavailable, message: error.message, chain: None };
            ipvs::Refused { error, server: None }
        })?;
        opened.apply(changes)
    }

    fn has_scheduler(&mut self, scheduler: &Scheduler) -> Result<bool, ObserveError> {
        self.get()?.has_scheduler(scheduler)
    }

    fn set_timeouts(&mut self, tcp: u32, tcp_fin: u32, udp: u32) -> Result<(), ObserveError> {
        self.get()?.set_timeouts(tcp, tcp_fin, udp)
    }
}
