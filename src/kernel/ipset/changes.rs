//! The difference as a value, and what a driver does with it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entries, Entry, ObservedSet, SetName, SetSpec};
use crate::kernel::{ApplyError, ObserveError};

/// What becomes of one set. `None` = it is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetChange {
    pub before: Option<SetSpec>,
    pub after: Option<SetSpec>,
    /// Entries to be there, new or with another comment. Adding what is there already is no error.
    pub add: Entries,
    /// Entries to be gone. What is gone already is no error.
    pub remove: BTreeSet<Entry>,
}

impl SetChange {
    pub fn is_nothing(&self) -> bool {
        self.before == self.after && self.add.is_empty() && self.remove.is_empty()
    }
}

/// A difference: the only thing that a driver applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub sets: BTreeMap<SetName, SetChange>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }
}

/// A kernel that holds sets: the real one, or the simulated one. Calls block.
pub trait Sets: Send {
    /// Visits every set whose name `wanted` says yes to, with what is in it.
    ///
    /// # Errors
    /// The kernel has no ipset, one that is too old, permission is missing, or the list cannot be read.
    fn observe(
        &mut self,
        wanted: &dyn Fn(&str) -> bool,
        visit: &mut dyn FnMut(ObservedSet),
    ) -> Result<(), ObserveError>;

    /// Makes these changes, set by set: creates it, adds entries, removes entries; then destroys sets. A set that is
    /// full grows: a larger one is filled and takes its place in one step, so that rules see all entries all the time. In
    /// the same way a set is made anew that gets or loses comments, or that is there although it should not be (`before`
    /// is `None`): it then holds what is to be added and nothing else.
    ///
    /// # Errors
    /// The first failure, with the name of the set; the other sets are changed nevertheless: a set of that name and another type is there, a set that is to go is
    /// in use by rules that are not ours, no memory. A set that should be there and is not is an error to try again after
    /// another look.
    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError>;
}
