//! The backend of iptables mode: the iptables plan over an xtables kernel.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::backend::{Backend, DifferenceKind, Repair, RepairError, RepairMode};
use super::doubt::Doubt;
use crate::kernel::xtables::ownership::is_owned;
use crate::kernel::xtables::{
    ApplyError, ApplyErrorKind, BuiltinChange, ChainChange, ChainKey, Changes, ObserveError, Table, Xtables,
};
use crate::model::{ServicePort, ServicePortKey, Settings};
use crate::net::Family;
use crate::plan::Move;
use crate::plan::iptables::{Comparison, Desired, Planner};

/// Settings that others may replace while the backend runs. They come into force with the next
/// [`repair`](Backend::repair).
pub type SharedSettings = Arc<Mutex<Arc<Settings>>>;

/// How many differences a repair describes one by one.
const LINES: usize = 20;

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
        }
    }

    /// The kernel underneath.
    pub fn xtables(&mut self) -> &mut X {
        &mut self.xtables
    }

    /// Shows every chain that the kernel holds to a comparison.
    fn observe(&mut self, comparison: &mut Comparison, builtin_only: bool) -> Result<(), ObserveError> {
        for family in self.families.clone() {
            for table in Table::ALL {
                self.xtables.observe(family, table, &mut |chain| {
                    if chain.builtin || !builtin_only || !is_owned(table, chain.name.as_str()) {
                        comparison.observed(family, table, chain);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// The base, each chain of it whole, and those jumps from built-in chains that are missing.
    fn base_changes(&mut self) -> Result<Changes, ApplyError> {
        let (desired, _) = Desired::plan(self.planner.settings(), &self.families, &[]);
        let mut comparison = desired.compare();
        self.observe(&mut comparison, true).map_err(|error| ApplyError {
            kind: ApplyErrorKind::Busy,
            message: error.message,
            chain: None,
        })?;
        Ok(comparison.finish())
    }
}

impl<X: Xtables> Backend for IptablesBackend<X> {
    fn apply(&mut self, moves: &[Move]) -> Result<(), ApplyError> {
        let base = if self.base_in_place { Changes::default() } else { self.base_changes()? };
        let mut changes = self.planner.replan(moves);
        self.doubt.settle(&mut changes, self.memory);
        let base_only = add_base(&mut changes, base);
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
        }
        result
    }

    fn suspect(&self, _error: &ApplyError) -> Option<ServicePortKey> {
        self.suspect.clone()
    }

    fn repair(&mut self, model: &[Arc<ServicePort>], mode: RepairMode) -> Result<Repair, RepairError> {
        let settings = current(&self.settings);
        let (desired, planner) = Desired::plan(&settings, &self.families, model);
        let mut comparison = desired.compare();
        self.observe(&mut comparison, false)?;
        let changes = comparison.finish();
        let repair = describe(&changes);
        if mode == RepairMode::ReportOnly {
            return Ok(repair);
        }
        if !changes.is_empty() {
            self.xtables.apply(&changes)?;
        }
        self.planner = planner;
        self.base_in_place = true;
        self.memory = true;
        self.doubt.clear();
        Ok(repair)
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

fn current(settings: &SharedSettings) -> Arc<Settings> {
    settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Counts differences by sort and says the first of them in words.
fn describe(changes: &Changes) -> Repair {
    let mut differences: BTreeMap<DifferenceKind, u64> = BTreeMap::new();
    let mut lines = Vec::new();
    let mut note = |family: Family, table: Table, kind: &'static str, name: &str| {
        *differences.entry(DifferenceKind { family, table: table.as_str(), kind }).or_default() += 1;
        if lines.len() < LINES {
            lines.push(format!("{family} {table} {name}: {kind}"));
        }
    };
    for (key, change) in &changes.chains {
        note(key.family, key.table, chain_kind(change), key.name.as_str());
    }
    for change in &changes.builtin {
        let kind = match change {
            BuiltinChange::CreateChain(_) => "chain missing",
            BuiltinChange::Insert(..) | BuiltinChange::Append(..) => "rule missing",
            BuiltinChange::Delete(..) => "rule extra",
        };
        let key = change.chain();
        note(key.family, key.table, kind, key.name.as_str());
    }
    Repair { differences, lines }
}

fn chain_kind(change: &ChainChange) -> &'static str {
    match (&change.before, &change.after) {
        (None, _) => "chain missing",
        (_, None) => "chain extra",
        _ => "chain changed",
    }
}
