//! The kernel's sets behind [`Sets`].

use std::sync::atomic::{AtomicU32, Ordering};

use super::check::check;
use super::conversation::{Conversation, Made, Put};
use super::encode::{Commented, Deed, MAXELEM};
use super::{Changes, Entries, IpsetError, Mismatch, ObservedSet, SetChange, SetName, SetSpec, Sets};
use crate::kernel::{ApplyError, ObserveError, Traffic};

/// How the names of sets begin that stand in for another while it is made anew. Such a set is there only between two
/// requests, or because a process was killed then.
pub const TEMPORARY: &str = "weir-tmp-";

const TEMPORARY_NAMES: u32 = 16;
static NEXT_TEMPORARY: AtomicU32 = AtomicU32::new(0);

/// Reads and writes the sets of one network namespace.
#[derive(Debug)]
pub struct IpsetDriver {
    kernel: Conversation,
}

impl IpsetDriver {
    /// Opens it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel has no ipset, one before Linux 4.20, or permission is missing.
    pub fn open() -> Result<Self, IpsetError> {
        Ok(IpsetDriver { kernel: Conversation::open()? })
    }

    /// Counts what is sent from now on there.
    pub fn count(&mut self, traffic: Traffic) {
        self.kernel.count(traffic);
    }

    /// Makes one set as it is to be.
    fn write(&mut self, set: &SetName, spec: &SetSpec, change: &SetChange) -> Result<(), IpsetError> {
        check(set, spec, &change.add)?;
        let written = match change.before {
            None => self.make(set, spec, &change.add),
            Some(before) if before.comments != spec.comments => self.make_anew(set, spec, change, Base::Kept),
            Some(_) => self.edit(set, spec, change),
        };
        // The kernel's words would be about attributes.
        match written {
            Err(IpsetError::Refused { .. }) => self.expect_alike(set, spec).and(written),
            other => other,
        }
    }

    /// A set that is not there. If it is there nevertheless, nobody knows what is in it.
    fn make(&mut self, set: &SetName, spec: &SetSpec, entries: &Entries) -> Result<(), IpsetError> {
        match self.kernel.create(set, spec, room(entries.len()))? {
            Made::New => self.fill(set, spec, entries),
            Made::Exists => {
                self.expect_alike(set, spec)?;
                let change = SetChange { add: entries.clone(), ..SetChange::default() };
                self.make_anew(set, spec, &change, Base::Empty)
            }
        }
    }

    /// A set that is there.
    fn edit(&mut self, set: &SetName, spec: &SetSpec, change: &SetChange) -> Result<(), IpsetError> {
        match self.kernel.put(Deed::Add, set, spec, &commented(&change.add))? {
            Put::Full => self.make_anew(set, spec, change, Base::Kept),
            Put::Done => {
                let remove: Vec<Commented<'_>> = change.remove.iter().map(|entry| (entry, None)).collect();
                self.kernel.put(Deed::Delete, set, spec, &remove).map(drop)
            }
        }
    }

    /// Another set, with room for all, is filled and takes the name. Rules see the old entries until then and the new
    /// ones at once.
    fn make_anew(&mut self, set: &SetName, spec: &SetSpec, change: &SetChange, base: Base) -> Result<(), IpsetError> {
        let mut entries = match base {
            Base::Empty => Entries::new(),
            Base::Kept => self.kernel.read(set)?.ok_or_else(|| IpsetError::Gone(set.clone()))?.entries,
        };
        if !spec.comments {
            entries.values_mut().for_each(|comment| *comment = None);
        }
        entries.extend(change.add.iter().map(|(entry, comment)| (*entry, comment.clone())));
        entries.retain(|entry, _| !change.remove.contains(entry));
        let other = self.make_temporary(spec, room(entries.len()))?;
        tracing::debug!(%set, entries = entries.len(), room = room(entries.len()), "an ipset is made anew");
        let swapped = self.fill(&other, spec, &entries).and_then(|()| self.kernel.swap(set, &other));
        // By now it is the old one, or was for nothing.
        swapped.and(self.kernel.destroy(&[&other]))
    }

    fn fill(&mut self, set: &SetName, spec: &SetSpec, entries: &Entries) -> Result<(), IpsetError> {
        match self.kernel.put(Deed::Add, set, spec, &commented(entries))? {
            Put::Done => Ok(()),
            Put::Full => Err(IpsetError::TooMany { set: set.clone(), entries: entries.len() }),
        }
    }

    fn make_temporary(&mut self, spec: &SetSpec, room: u32) -> Result<SetName, IpsetError> {
        // Two drivers may be at it at the same time.
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed) % TEMPORARY_NAMES;
        let name = SetName::new(format!("{TEMPORARY}{number}"));
        // One that a killed process left behind.
        self.kernel.destroy(&[&name])?;
        match self.kernel.create(&name, spec, room)? {
            Made::New => Ok(name),
            Made::Exists => Err(IpsetError::InUse(name)),
        }
    }

    /// The set that is there must be of the type and family that it should be. Everything else can be made anew.
    fn expect_alike(&mut self, set: &SetName, spec: &SetSpec) -> Result<(), IpsetError> {
        let found = self.kernel.header(set)?.ok_or_else(|| IpsetError::Gone(set.clone()))?;
        if found.is_alike(spec) {
            return Ok(());
        }
        Err(Mismatch { set: set.clone(), wanted: *spec, found: found.to_string().into() }.into())
    }
}

impl Sets for IpsetDriver {
    fn observe(
        &mut self,
        wanted: &dyn Fn(&str) -> bool,
        visit: &mut dyn FnMut(ObservedSet),
    ) -> Result<(), ObserveError> {
        for header in self.kernel.headers()? {
            // It may be gone since.
            if wanted(header.name.as_str())
                && let Some(set) = self.kernel.read(&header.name)?
            {
                visit(set);
            }
        }
        Ok(())
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        let mut outcome = Ok(());
        for (set, change) in &changes.sets {
            if let Some(spec) = &change.after {
                note(&mut outcome, self.write(set, spec, change));
            }
        }
        let gone: Vec<&SetName> =
            changes.sets.iter().filter(|(_, change)| change.after.is_none()).map(|(set, _)| set).collect();
        note(&mut outcome, self.kernel.destroy(&gone));
        outcome.map_err(ApplyError::from)
    }
}

/// What is in the set that stands in for another at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Empty,
    /// What the other holds.
    Kept,
}

/// One set's trouble is not another's: all are tried, and the first error is told.
fn note(outcome: &mut Result<(), IpsetError>, one: Result<(), IpsetError>) {
    match (&outcome, one) {
        (Ok(()), one) => *outcome = one,
        (Err(_), Err(error)) => tracing::warn!(%error, "changing another ipset failed as well"),
        (Err(_), Ok(())) => {}
    }
}

/// The room of a hash for so many entries: kube-proxy's if that is enough, as `ipset create -exist` refuses any other.
pub(super) fn room(entries: usize) -> u32 {
    let enough = entries.checked_next_power_of_two().and_then(|room| u32::try_from(room).ok());
    enough.unwrap_or(u32::MAX).max(MAXELEM)
}

fn commented(entries: &Entries) -> Vec<Commented<'_>> {
    entries.iter().map(|(entry, comment)| (entry, comment.as_deref())).collect()
}
