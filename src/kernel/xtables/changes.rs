//! The difference as a value, and what a driver does with it.

use std::collections::{BTreeMap, BTreeSet};

use super::{ChainKey, ChainName, ObservedRule, Rule, Table};
use crate::net::Family;

/// What becomes of one chain that is ours.
///
/// `None` means that the chain is not there. A driver writes the whole chain (it flushes and fills it in one step), so
/// a change is right whatever the kernel really held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainChange {
    pub before: Option<Vec<ObservedRule>>,
    pub after: Option<Vec<Rule>>,
}

/// What becomes of one rule in a chain that is not ours alone: a built-in chain, or one shared with the kubelet.
/// Such a chain is never flushed and its other rules are never touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuiltinChange {
    /// Create an empty user chain that is absent (`-N`), without flushing one that is there.
    CreateChain(ChainKey),
    /// Insert the rule at the head of the chain.
    Insert(ChainKey, Rule),
    /// Append the rule.
    Append(ChainKey, Rule),
    /// Delete the first rule that is equal.
    Delete(ChainKey, Rule),
}

impl ChainChange {
    /// Both sides are the same.
    pub fn is_nothing(&self) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => before == after,
            (None, None) => true,
            _ => false,
        }
    }
}

impl BuiltinChange {
    pub fn chain(&self) -> &ChainKey {
        match self {
            BuiltinChange::CreateChain(chain)
            | BuiltinChange::Insert(chain, _)
            | BuiltinChange::Append(chain, _)
            | BuiltinChange::Delete(chain, _) => chain,
        }
    }
}

/// A difference: the only thing that a driver applies, and what `weir diff` prints.
///
/// Order is not part of it: [`order`](super) puts what is referred to before what refers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub chains: BTreeMap<ChainKey, ChainChange>,
    /// In the order in which they are made.
    pub builtin: Vec<BuiltinChange>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.builtin.is_empty()
    }
}

/// One chain as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedChain {
    pub name: ChainName,
    /// A built-in chain (it has a policy).
    pub builtin: bool,
    pub rules: Vec<ObservedRule>,
}

/// What went wrong, by what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApplyErrorKind {
    /// Try the same again later: a lock, a race with another writer, no memory.
    Busy,
    /// The kernel or the tool refused something in this batch: trying the same again gives the same answer.
    Refused,
    /// Nothing can be applied at all: no permission, no tool, no such feature.
    Unavailable,
}

/// Applying failed. What the kernel holds of this batch afterwards is unknown: sections that came before the failing
/// one are in force.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApplyError {
    pub kind: ApplyErrorKind,
    /// One line: the tool, what it said, and the remedy where there is one.
    pub message: String,
    /// The chain whose rule was refused, where the answer names it.
    pub chain: Option<ChainKey>,
}

/// Applies family by family. One family's trouble is not the other's: all are tried, and the first error is told.
pub(super) fn try_all(applied: impl Iterator<Item = (Family, Result<(), ApplyError>)>) -> Result<(), ApplyError> {
    let mut outcome = Ok(());
    for (family, applied) in applied {
        match (&outcome, applied) {
            (Ok(()), applied) => outcome = applied,
            (Err(_), Err(error)) => tracing::warn!(%family, %error, "applying failed as well"),
            (Err(_), Ok(())) => {}
        }
    }
    outcome
}

/// Observing failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ObserveError {
    /// One line: the tool, what it said, and the remedy where there is one.
    pub message: String,
}

/// Visits every chain of all tables of these families.
///
/// # Errors
/// Those of [`Xtables::observe`].
pub fn observe_all(
    xtables: &mut (impl Xtables + ?Sized),
    families: &[Family],
    visit: &mut dyn FnMut(Family, Table, ObservedChain),
) -> Result<(), ObserveError> {
    for family in families {
        for table in Table::ALL {
            xtables.observe(*family, table, &mut |chain| visit(*family, table, chain))?;
        }
    }
    Ok(())
}

/// A kernel that holds xtables rules: the real one through a driver, or the simulated one.
///
/// Calls block; the engine makes them off its own thread.
pub trait Xtables: Send {
    /// Visits every chain of a table, in an unspecified order, without holding more than one chain at a time. A table
    /// that does not exist has no chains.
    fn observe(
        &mut self,
        family: Family,
        table: Table,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError>;

    /// Visits those of these chains that exist, which are all of one table.
    ///
    /// A driver that can read single chains does so; the others read the whole table.
    fn observe_chains(
        &mut self,
        family: Family,
        table: Table,
        names: &BTreeSet<ChainName>,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        self.observe(family, table, &mut |chain| {
            if names.contains(&chain.name) {
                visit(chain);
            }
        })
    }

    /// Makes exactly these changes, in an order in which no packet meets a half-made service.
    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError>;
}
