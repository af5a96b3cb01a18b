//! Moves of service ports, compares, and what is due by time alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Kernel;
use super::describe::describe;
use super::order::{self, Failure};
use super::schedulers::Schedulers;
use crate::engine::backend::{Backend, Repair, RepairError, RepairMode, Standing};
use crate::engine::first::comes_first;
use crate::engine::iptables::{SharedSettings, current};
use crate::kernel::ipset::Sets;
use crate::kernel::ipvs::{Ipvs, VirtualServerKey};
use crate::kernel::link::Links;
use crate::kernel::xtables::{self, ChainKey, ChainName, Scope, Table, Xtables};
use crate::kernel::{ApplyError, ApplyErrorKind, ObserveError};
use crate::model::{ServicePort, ServicePortKey, Settings};
use crate::net::Family;
use crate::plan::Move;
use crate::plan::ipvs::{
    Difference, Goal, Observed, Planner, UnixSeconds, compare, entrance, obstacles, rules, rules_named,
};

/// Real servers that drain are looked at this often, or more seldom where that is much work.
const TEND: Duration = Duration::from_secs(1);
/// Looking at them takes at most one part in so many of the time.
const TEND_SHARE: u32 = 20;

/// What others are told, on the kernel thread.
pub struct IpvsHooks {
    /// Now, in seconds since 1970.
    pub clock: Box<dyn Fn() -> UnixSeconds + Send>,
    /// How many virtual servers there are, after each compare that repairs.
    pub counted: Box<dyn FnMut(usize) + Send>,
}

impl Default for IpvsHooks {
    /// The system's clock; nobody is told.
    fn default() -> Self {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        IpvsHooks {
            clock: Box::new(move || UnixSeconds::try_from(clock()).unwrap_or(UnixSeconds::MAX)),
            counted: Box::new(|_| {}),
        }
    }
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
        base.rules = self.kernel.compare_rules(rules(&settings, &self.families), &self.families).map_err(unreadable)?;
        Ok(only_what_comes(base))
    }

    /// A virtual server that we would make and somebody else has made is not ours to change.
    fn check_new(&mut self, difference: &Difference) -> Result<(), Failure> {
        let new = difference.servers.servers.iter().filter(|(_, change)| change.before.is_none());
        for (key, _) in new.filter(|(key, _)| !self.doubtful.contains(key)) {
            if self.kernel.servers.real_servers(key).map_err(unreadable)?.is_some() {
                let message = format!(
                    "the virtual server {key} is there already and is not weir's: remove it (`ipvsadm -D`), or give \
                     the service another address or port"
                );
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
        order::apply(&mut self.kernel, difference)
    }

    fn repair_rules(&mut self, names: &BTreeSet<ChainKey>, mode: RepairMode) -> Result<Repair, RepairError> {
        let families = self.families.clone();
        let mut comparison = rules_named(self.planner.settings(), &families, names).compare();
        let mut tables: BTreeMap<(Family, Table), BTreeSet<ChainName>> = BTreeMap::new();
        for key in names.iter().filter(|key| families.contains(&key.family)) {
            tables.entry((key.family, key.table)).or_default().insert(key.name.clone());
        }
        for ((family, table), names) in &tables {
            let visit = &mut |chain| comparison.observed(*family, *table, chain);
            self.kernel.rules.observe_chains(*family, *table, names, visit)?;
        }
        let difference = Difference { rules: comparison.finish(), ..Difference::default() };
        if mode == RepairMode::Repair && !difference.is_empty() {
            order::apply(&mut self.kernel, &difference).map_err(|failure| failure.error)?;
        }
        Ok(describe(&difference))
    }

    fn repair_all(&mut self, model: &[Arc<ServicePort>], mode: RepairMode) -> Result<Repair, RepairError> {
        let settings = self.settle(model.iter())?;
        let look = self.look(&settings)?;
        let (mut difference, mut planner) = self.compare(&settings, model, &look);
        let repair = describe(&difference);
        if mode == RepairMode::ReportOnly {
            return Ok(repair);
        }
        if self.families.iter().any(|family| is_cut_off(&difference, *family)) {
            let ports: Vec<_> = model.iter().filter(|port| comes_first(port)).cloned().collect();
            let (first, _) = self.compare(&settings, &ports, &look);
            order::apply(&mut self.kernel, &only_what_comes(first)).map_err(|failure| failure.error)?;
            // A difference is made once: what came is there now.
            let look = self.look(&settings)?;
            (difference, planner) = self.compare(&settings, model, &look);
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

    /// What the kernel holds: everything but rules, and how rules differ.
    fn look(&mut self, settings: &Settings) -> Result<(Observed, xtables::Changes), RepairError> {
        let families = self.families.clone();
        let observed = self.kernel.observe(&families)?;
        check_obstacles(&observed, &families)?;
        let rules = self.kernel.compare_rules(rules(settings, &families), &families)?;
        Ok((observed, rules))
    }

    fn compare(
        &self,
        settings: &Arc<Settings>,
        model: &[Arc<ServicePort>],
        (observed, rules): &(Observed, xtables::Changes),
    ) -> (Difference, Planner) {
        let known = |key: &VirtualServerKey| self.planner.knows(key);
        let goal = Goal::Serve(model);
        let (difference, planner) = compare(settings, &self.families, goal, observed, &known, self.now());
        (Difference { rules: rules.clone(), ..difference }, planner)
    }

    /// Says once which services cannot be served because of somebody else's virtual server.
    fn tell_denied(&mut self) {
        let denied: BTreeMap<_, _> = self.planner.denied().map(|(key, port)| (*key, port.clone())).collect();
        for (key, port) in denied.iter().filter(|(key, port)| self.denied.get(key) != Some(port)) {
            tracing::error!(
                service_port = %port.name,
                family = port.family.as_str(),
                "the virtual server {key} is there already and is not weir's, so the service is not served there: \
                 remove it (`ipvsadm -D`), or give the service another address or port"
            );
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
        let new = difference.servers.servers.iter().filter(|(_, change)| change.before.is_none());
        self.doubtful.extend(new.map(|(key, _)| *key).filter(|key| Some(*key) != failure.server));
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
        let keys: Vec<VirtualServerKey> = self.planner.draining().keys().copied().collect();
        let now = self.now();
        let mut all = Difference::default();
        for key in keys {
            let observed = self.kernel.servers.real_servers(&key)?;
            let due = self.planner.tend(&key, observed.as_ref(), now);
            order::apply(&mut self.kernel, &due).map_err(|failure| failure.error)?;
            all.servers.servers.extend(due.servers.servers);
        }
        self.tended = began.elapsed();
        if !all.servers.is_empty() {
            let count = all.servers.servers.len();
            tracing::debug!(virtual_servers = count, "real servers without connections are gone");
        }
        Ok(())
    }

    fn standing(&self) -> Standing {
        Standing {
            substituted: self.planner.substituted(),
            denied: self.denied.len(),
            draining: self.planner.draining().values().map(|draining| draining.real_servers.len()).sum(),
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
    difference.rules.builtin.retain(|change| !matches!(change, crate::kernel::xtables::BuiltinChange::Delete(..)));
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
