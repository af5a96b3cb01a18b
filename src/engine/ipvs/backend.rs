//! Moves of service ports, compares, and what is due by time alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Kernel;
use super::describe::describe;
use super::order::{self, Failure};
use super::schedulers::Schedulers;
use super::tend::TEND;
use crate::engine::backend::{Backend, Repair, RepairError, RepairMode, Standing};
use crate::engine::first::comes_first;
use crate::engine::iptables::{SharedSettings, current};
use crate::engine::partial::compare_chains;
use crate::kernel::ipset::Sets;
use crate::kernel::ipvs::{Ipvs, VirtualServerKey};
use crate::kernel::link::Links;
use crate::kernel::xtables::{self, BuiltinChange, ChainKey, Scope, Xtables};
use crate::kernel::{ApplyError, ApplyErrorKind, ObserveError};
use crate::model::{ServicePort, ServicePortKey, Settings};
use crate::net::Family;
use crate::plan::Move;
use crate::plan::ipvs::{
    Denied, Difference, Goal, Observed, Planner, UnixSeconds, compare, entrance, obstacles, rules, rules_named,
};

/// Looking at what drains takes at most one part in so many of the time.
const TEND_SHARE: u32 = 20;

/// What others are told, on the kernel thread.
pub struct IpvsHooks {
    /// Now, in seconds since 1970.
    pub clock: Box<dyn Fn() -> UnixSeconds + Send>,
    /// How many virtual servers there are, after each compare that repairs.
    pub counted: Box<dyn FnMut(usize) + Send>,
    /// A service port cannot be served at this virtual server, which is somebody else's. Told once.
    pub denied: OnDenied,
}

/// Told of a virtual server that is somebody else's, and of the service port that asks for it.
pub type OnDenied = Box<dyn FnMut(&VirtualServerKey, &ServicePortKey) + Send>;

impl Default for IpvsHooks {
    /// The system's clock; nobody is told.
    fn default() -> Self {
        IpvsHooks { clock: Box::new(now), counted: Box::new(|_| {}), denied: Box::new(|_, _| {}) }
    }
}

/// The time by the system's clock.
pub fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixSeconds::try_from(since.as_secs()).unwrap_or(UnixSeconds::MAX)
}

/// Plans for IPVS and drives a kernel, real or simulated.
pub struct IpvsBackend<X, S, L, V> {
    kernel: Kernel<X, S, L, V>,
    settings: SharedSettings,
    families: Vec<Family>,
    hooks: IpvsHooks,
    planner: Planner,
    schedulers: Schedulers,
    base_in_place: bool,
    /// What the kernel holds beside the base is known: no `forget` since the last compare.
    memory: bool,
    /// Virtual servers that a failed apply may have made.
    doubtful: BTreeSet<VirtualServerKey>,
    /// The service port that the last failure was about.
    suspect: Option<ServicePortKey>,
    /// Virtual servers of others that services ask for, as told.
    denied: BTreeMap<VirtualServerKey, ServicePortKey>,
    /// How long the last look at what drains took.
    tended: Duration,
}

impl<X: Xtables, S: Sets, L: Links, V: Ipvs> IpvsBackend<X, S, L, V> {
    /// A backend that knows of nothing in the kernel yet.
    pub fn new(kernel: Kernel<X, S, L, V>, settings: SharedSettings, families: Vec<Family>, hooks: IpvsHooks) -> Self {
        let planner = Planner::new(current(&settings), &families, BTreeSet::new());
        IpvsBackend {
            kernel,
            settings,
            families,
            hooks,
            planner,
            schedulers: Schedulers::default(),
            base_in_place: false,
            memory: false,
            doubtful: BTreeSet::new(),
            suspect: None,
            denied: BTreeMap::new(),
            tended: Duration::ZERO,
        }
    }

    /// The kernel underneath.
    pub fn kernel(&mut self) -> &mut Kernel<X, S, L, V> {
        &mut self.kernel
    }

    fn now(&self) -> UnixSeconds {
        (self.hooks.clock)()
    }

    /// The settings as they are now, with what the kernel lacks for these service ports.
    fn settle<'a>(&mut self, ports: impl Iterator<Item = &'a Arc<ServicePort>>) -> Result<Arc<Settings>, ObserveError> {
        let settings = current(&self.settings);
        self.schedulers.learn(&mut self.kernel.servers, ports, &settings.ipvs.scheduler)?;
        Ok(self.schedulers.apply_to(settings))
    }

    /// Sets, rules and the device, as far as they are not there or not right. Nothing that is there goes.
    fn base_difference(&mut self) -> Result<Difference, ApplyError> {
        let settings = self.planner.settings().clone();
        let observed = self.kernel.observe_sets_and_device().map_err(unreadable)?;
        check_obstacles(&observed, &self.families)?;
        let (mut base, _) = compare(&settings, &self.families, Goal::Serve(&[]), &observed, &|_| false, self.now());
        base.rules = self.compare_rules(&settings).map_err(unreadable)?;
        Ok(only_what_comes(base))
    }

    /// A virtual server that we would make and somebody else has made is not ours to change.
    fn check_new(&mut self, difference: &Difference) -> Result<(), Failure> {
        let new = difference.servers.servers.iter().filter(|(_, change)| change.before.is_none());
        for (key, _) in new.filter(|(key, _)| !self.doubtful.contains(key)) {
            if self.kernel.servers.real_servers(key).map_err(unreadable)?.is_some() {
                let message = Denied(*key).to_string();
                let error = ApplyError { kind: ApplyErrorKind::Refused, message, chain: None };
                return Err(Failure { error, server: Some(*key) });
            }
        }
        Ok(())
    }

    fn try_apply(&mut self, difference: &Difference) -> Result<(), Failure> {
        if self.memory {
            self.check_new(difference)?;
        }
        let applied = order::apply(&mut self.kernel, difference);
        if let Err(failure) = &applied {
            // All of them may be there now, made by us.
            let new = difference.servers.servers.iter().filter(|(_, change)| change.before.is_none());
            self.doubtful.extend(new.map(|(key, _)| *key).filter(|key| Some(*key) != failure.server));
        }
        applied
    }

    fn repair_rules(&mut self, names: &BTreeSet<ChainKey>, mode: RepairMode) -> Result<Repair, RepairError> {
        let wanted = |names: &_| rules_named(self.planner.settings(), &self.families, names);
        let rules = compare_chains(&mut self.kernel.rules, &self.families, names, wanted)?;
        let difference = Difference { rules, ..Difference::default() };
        if mode == RepairMode::Repair && !difference.is_empty() {
            order::apply(&mut self.kernel, &difference).map_err(|failure| failure.error)?;
        }
        Ok(describe(&difference))
    }

    fn repair_all(&mut self, model: &[Arc<ServicePort>], mode: RepairMode) -> Result<Repair, RepairError> {
        let settings = self.settle(model.iter())?;
        let observed = self.look()?;
        let (mut difference, mut planner) = self.compare(&settings, model, &observed);
        difference.rules = self.compare_rules(&settings)?;
        let repair = describe(&difference);
        if mode == RepairMode::ReportOnly {
            return Ok(repair);
        }
        if self.families.iter().any(|family| is_cut_off(&difference, *family)) {
            let ports: Vec<_> = model.iter().filter(|port| comes_first(port)).cloned().collect();
            let (first, _) = self.compare(&settings, &ports, &observed);
            let first = only_what_comes(Difference { rules: difference.rules, ..first });
            order::apply(&mut self.kernel, &first).map_err(|failure| failure.error)?;
            // A difference is made once: what came is there now.
            let observed = self.look()?;
            (difference, planner) = self.compare(&settings, model, &observed);
            difference.rules = self.compare_rules(&settings)?;
        }
        order::apply(&mut self.kernel, &difference).map_err(|failure| failure.error)?;
        self.planner = planner;
        self.base_in_place = true;
        self.memory = true;
        self.doubtful.clear();
        self.tell_denied();
        (self.hooks.counted)(self.planner.count());
        Ok(repair)
    }

    /// What the kernel holds: everything but rules.
    fn look(&mut self) -> Result<Observed, RepairError> {
        let observed = self.kernel.observe(&self.families)?;
        check_obstacles(&observed, &self.families)?;
        Ok(observed)
    }

    /// How rules differ.
    fn compare_rules(&mut self, settings: &Settings) -> Result<xtables::Changes, ObserveError> {
        self.kernel.compare_rules(rules(settings, &self.families), &self.families)
    }

    /// How all else differs.
    fn compare(
        &self,
        settings: &Arc<Settings>,
        model: &[Arc<ServicePort>],
        observed: &Observed,
    ) -> (Difference, Planner) {
        let known = |key: &VirtualServerKey| self.planner.knows(key);
        compare(settings, &self.families, Goal::Serve(model), observed, &known, self.now())
    }

    /// Says once which services cannot be served because of somebody else's virtual server.
    fn tell_denied(&mut self) {
        let denied: BTreeMap<_, _> = self.planner.denied().map(|(key, port)| (*key, port.clone())).collect();
        for (key, port) in denied.iter().filter(|(key, port)| self.denied.get(key) != Some(port)) {
            tracing::error!(
                service_port = %port.name,
                family = port.family.as_str(),
                "a service is not served: {}", Denied(*key)
            );
            (self.hooks.denied)(key, port);
        }
        self.denied = denied;
    }
}

impl<X: Xtables, S: Sets, L: Links, V: Ipvs> Backend for IpvsBackend<X, S, L, V> {
    fn apply(&mut self, moves: &[Move]) -> Result<(), ApplyError> {
        self.suspect = None;
        let settings = self.settle(moves.iter().filter_map(|m| m.after.as_ref())).map_err(unreadable)?;
        self.planner.learn_missing(&settings.ipvs.missing_schedulers);
        let base = if self.base_in_place { Difference::default() } else { self.base_difference()? };
        let now = self.now();
        let mut difference = self.planner.replan(moves, now);
        add_base(&mut difference, base);
        if difference.is_empty() {
            return Ok(());
        }
        let Err(failure) = self.try_apply(&difference) else {
            self.base_in_place = true;
            return Ok(());
        };
        self.suspect = failure.server.and_then(|key| self.planner.owner(&key).cloned());
        self.planner.revert(moves);
        Err(failure.error)
    }

    fn suspect(&self, _error: &ApplyError) -> Option<ServicePortKey> {
        self.suspect.clone()
    }

    fn repair(&mut self, model: &[Arc<ServicePort>], scope: &Scope, mode: RepairMode) -> Result<Repair, RepairError> {
        match scope {
            Scope::Chains(names) if self.memory && self.base_in_place => self.repair_rules(names, mode),
            Scope::Chains(_) | Scope::All => self.repair_all(model, mode),
        }
    }

    fn forget(&mut self) {
        let settings = self.schedulers.apply_to(current(&self.settings));
        self.planner = Planner::new(settings, &self.families, self.denied.keys().copied().collect());
        self.base_in_place = false;
        self.memory = false;
    }

    fn tend(&mut self) -> Result<(), RepairError> {
        let began = Instant::now();
        let now = self.now();
        let changed = self.kernel.tend(&mut self.planner, now)?;
        self.tended = began.elapsed();
        if changed > 0 {
            tracing::debug!(virtual_servers = changed, "real servers without connections are gone");
        }
        Ok(())
    }

    fn standing(&self) -> Standing {
        Standing {
            substituted: self.planner.substituted(),
            denied: self.denied.len(),
            draining: self.planner.draining_count(),
        }
    }

    fn rest(&self) -> Option<Duration> {
        let rest = TEND.max(self.tended.saturating_mul(TEND_SHARE));
        (!self.planner.draining().is_empty()).then_some(rest)
    }
}

fn unreadable(error: ObserveError) -> ApplyError {
    ApplyError { kind: ApplyErrorKind::Busy, message: error.message, chain: None }
}

fn check_obstacles(observed: &Observed, families: &[Family]) -> Result<(), ApplyError> {
    match obstacles(observed, families).first() {
        None => Ok(()),
        Some(obstacle) => {
            Err(ApplyError { kind: ApplyErrorKind::Unavailable, message: obstacle.to_string(), chain: None })
        }
    }
}

/// Whether packets find no way to services: the chain where all ways begin is not there.
fn is_cut_off(difference: &Difference, family: Family) -> bool {
    difference.rules.chains.get(&entrance(family)).is_some_and(|change| change.before.is_none())
}

/// The difference without what goes.
fn only_what_comes(mut difference: Difference) -> Difference {
    difference.sets.sets.retain(|_, change| {
        change.remove.clear();
        change.after.is_some() && !change.is_nothing()
    });
    difference.rules.chains.retain(|_, change| change.after.is_some());
    difference.rules.builtin.retain(|change| !matches!(change, BuiltinChange::Delete(..)));
    difference.links.remove.clear();
    difference.servers.servers.retain(|_, change| {
        change.real_servers.retain(|_, real| real.after.is_some());
        change.after.is_some()
    });
    difference
}

/// Adds the base to what moves changed.
fn add_base(difference: &mut Difference, base: Difference) {
    for (name, set) in base.sets.sets {
        let change = difference.sets.sets.entry(name).or_insert_with(|| set.clone());
        (change.before, change.after) = (set.before, set.after);
        change.add.extend(set.add);
    }
    difference.links.create |= base.links.create;
    difference.rules = base.rules;
}
