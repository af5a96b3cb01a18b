//! The backend of iptables mode: the iptables plan over an xtables kernel.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use super::backend::{Backend, Repair, RepairError, RepairMode};
use super::describe::describe;
use super::doubt::Doubt;
use super::first::First;
use super::kept::Kept;
use super::partial::compare_chains;
use super::whole::Whole;
use crate::kernel::xtables::ownership::is_owned;
use crate::kernel::xtables::{ApplyError, ApplyErrorKind, ChainKey, Changes, RuleCounts, Scope, Xtables, observe_all};
use crate::model::{ServicePort, ServicePortKey, Settings};
use crate::net::Family;
use crate::plan::Move;
use crate::plan::iptables::{Desired, Planner};

/// Settings that others may replace while the backend runs. They come into force with the next
/// [`repair`](Backend::repair).
pub type SharedSettings = Arc<Mutex<Arc<Settings>>>;

/// Plans for iptables and drives an xtables kernel, real or simulated.
pub struct IptablesBackend<X> {
    xtables: X,
    settings: SharedSettings,
    families: Vec<Family>,
    planner: Planner,
    /// The base is known to be in the kernel.
    base_in_place: bool,
    /// The service port that owns the chain which the last failed apply named.
    suspect: Option<ServicePortKey>,
    /// What the kernel holds beside the base is known: no `forget` since the last compare.
    memory: bool,
    doubt: Doubt,
    /// Shared chains that are not to be written whole, as long as there is no `memory`.
    kept: Kept,
    counts: RuleCounts,
}

impl<X: Xtables> IptablesBackend<X> {
    /// A backend that knows of nothing in the kernel yet.
    pub fn new(xtables: X, settings: SharedSettings, families: Vec<Family>) -> Self {
        let planner = Planner::new(current(&settings), &families);
        IptablesBackend {
            xtables,
            settings,
            families,
            planner,
            base_in_place: false,
            suspect: None,
            memory: false,
            doubt: Doubt::default(),
            kept: Kept::default(),
            counts: RuleCounts::default(),
        }
    }

    /// Counts rules there.
    #[must_use]
    pub fn counting(self, counts: RuleCounts) -> Self {
        IptablesBackend { counts, ..self }
    }

    /// The kernel underneath.
    pub fn xtables(&mut self) -> &mut X {
        &mut self.xtables
    }

    /// The base, each chain of it whole, and those jumps from built-in chains that are missing.
    fn base_changes(&mut self) -> Result<Changes, ApplyError> {
        let (desired, _) = Desired::plan(self.planner.settings(), &self.families, &[]);
        let mut comparison = desired.compare();
        let mut kept = Kept::default();
        observe_all(&mut self.xtables, &self.families, &mut |family, table, chain| {
            kept.note(family, table, &chain);
            if chain.builtin || !is_owned(table, chain.name.as_str()) {
                comparison.observed(family, table, chain);
            }
        })
        .map_err(|error| ApplyError { kind: ApplyErrorKind::Busy, message: error.message, chain: None })?;
        self.kept = kept;
        Ok(comparison.finish())
    }

    /// Whether the kernel holds what is remembered, as far as nobody else changed it.
    fn is_sure(&self) -> bool {
        self.memory && self.base_in_place && self.doubt.is_empty()
    }

    fn repair_chains(
        &mut self,
        model: &[Arc<ServicePort>],
        names: &BTreeSet<ChainKey>,
        mode: RepairMode,
    ) -> Result<Repair, RepairError> {
        let planner = &self.planner;
        let wanted = |names: &_| Desired::plan_named(planner.settings(), &self.families, planner, model, names);
        let changes = compare_chains(&mut self.xtables, &self.families, names, wanted)?;
        if mode == RepairMode::Repair && !changes.is_empty() {
            self.xtables.apply(&changes)?;
            self.counts.wrote(&changes);
        }
        Ok(describe(&changes))
    }

    /// One look at the kernel; then, if nothing leads to services, what comes first; then everything else.
    fn repair_all(&mut self, model: &[Arc<ServicePort>], mode: RepairMode) -> Result<Repair, RepairError> {
        let settings = current(&self.settings);
        let families = self.families.clone();
        let mut first = match mode {
            RepairMode::Repair => First::plan(&settings, &families, model),
            RepairMode::ReportOnly => None,
        };
        let mut whole = Whole::new(settings, &families, model);
        observe_all(&mut self.xtables, &families, &mut |family, table, chain| {
            if let Some(first) = &mut first {
                first.observed(family, table, &chain);
            }
            whole.observed(family, table, chain);
        })?;
        let first = first.and_then(First::finish);
        if let Some(first) = &first {
            self.xtables.apply(first.changes())?;
        }
        let (changes, planner, rules) = whole.finish();
        let repair = describe(&changes);
        if mode == RepairMode::ReportOnly {
            return Ok(repair);
        }
        let changes = match first {
            Some(first) => first.rest(changes),
            None => changes,
        };
        if !changes.is_empty() {
            self.xtables.apply(&changes)?;
            self.counts.wrote(&changes);
        }
        self.counts.set_owned(&rules);
        self.planner = planner;
        self.base_in_place = true;
        self.memory = true;
        self.doubt.clear();
        self.kept.clear();
        Ok(repair)
    }
}

impl<X: Xtables> Backend for IptablesBackend<X> {
    fn apply(&mut self, moves: &[Move]) -> Result<(), ApplyError> {
        let base = if self.base_in_place { Changes::default() } else { self.base_changes()? };
        let mut changes = self.planner.replan(moves);
        self.doubt.settle(&mut changes, self.memory);
        let base_only = add_base(&mut changes, base);
        if !self.memory {
            self.kept.keep(&mut changes);
        }
        if changes.is_empty() {
            return Ok(());
        }
        let result = self.xtables.apply(&changes);
        self.suspect = None;
        if let Err(error) = &result {
            self.suspect = error.chain.as_ref().and_then(|chain| Planner::owner(moves, chain));
            self.planner.revert(moves);
            changes.chains.retain(|key, _| !base_only.contains(key));
            self.doubt.failed(changes);
        } else {
            self.base_in_place = true;
            self.doubt.clear();
            self.kept.took(&changes);
            self.counts.changed(&changes);
        }
        result
    }

    fn suspect(&self, _error: &ApplyError) -> Option<ServicePortKey> {
        self.suspect.clone()
    }

    fn repair(&mut self, model: &[Arc<ServicePort>], scope: &Scope, mode: RepairMode) -> Result<Repair, RepairError> {
        match scope {
            Scope::Chains(names) if self.is_sure() => self.repair_chains(model, names, mode),
            Scope::Chains(_) | Scope::All => self.repair_all(model, mode),
        }
    }

    fn forget(&mut self) {
        self.planner = Planner::new(current(&self.settings), &self.families);
        self.base_in_place = false;
        self.memory = false;
        self.doubt.clear();
    }
}

/// Adds the base to changes of the planner. A root of a dispatch tree is base and has entries: the planner's word is the
/// later one. Returns the chains that are in the base alone.
fn add_base(changes: &mut Changes, base: Changes) -> BTreeSet<ChainKey> {
    let mut builtin = base.builtin;
    builtin.append(&mut changes.builtin);
    changes.builtin = builtin;
    let mut base_only = BTreeSet::new();
    for (key, change) in base.chains {
        if let Entry::Vacant(vacant) = changes.chains.entry(key) {
            base_only.insert(vacant.key().clone());
            vacant.insert(change);
        }
    }
    base_only
}

/// The settings as they are now.
pub(super) fn current(settings: &SharedSettings) -> Arc<Settings> {
    settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
