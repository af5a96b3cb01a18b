//! Legacy tables: the kernel tells nobody that they changed, so their numbers are looked at now and then.
//!
//! A look is a system call a table, which tells how many rules there are, their size, and where the built-in chains begin
//! and end. It does not see a rule that was replaced by one of the same size, say with another address, nor who did it:
//! the periodic compare finds the former.
//!
//! All that happens while we write counts as ours: a write replaces the whole table with what was read just before.

mod info;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use self::info::{Asker, Info};
use super::own::{Eyes, OwnWrites};
use crate::kernel::xtables::Table;
use crate::net::Family;

/// How many looks trust that the tables that were there are those that are there.
const TRUST: u32 = 20;

/// Looks at the legacy tables of the network namespace of the thread that opened it.
#[derive(Clone, Debug)]
pub(super) struct LegacyWatch {
    tables: Arc<Mutex<Tables>>,
}

impl LegacyWatch {
    /// Begins with what is there now.
    pub(super) fn open(own: &OwnWrites, families: &[Family]) -> Result<Self, Errno> {
        let askers =
            families.iter().map(|family| Ok((*family, Asker::open(*family)?))).collect::<Result<_, Errno>>()?;
        let mut tables =
            Tables { askers, seen: BTreeMap::new(), trusted: 0, changed: false, closed: false, failure: None };
        tables.look_again();
        if let Some(errno) = tables.failure {
            return Err(errno);
        }
        tables.changed = false;
        let watch = LegacyWatch { tables: Arc::new(Mutex::new(tables)) };
        own.attach(Box::new(watch.clone()));
        Ok(watch)
    }

    /// Whether somebody else changed a table since the last call.
    pub(super) fn look(&self) -> Result<bool, Errno> {
        let mut tables = self.tables();
        if !tables.closed {
            tables.look();
        }
        match tables.failure.take() {
            Some(errno) => Err(errno),
            None => Ok(std::mem::take(&mut tables.changed)),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Eyes for LegacyWatch {
    fn close(&mut self) {
        let mut tables = self.tables();
        // What others did up to now is not ours.
        tables.look();
        tables.closed = true;
    }

    fn open(&mut self) {
        let mut tables = self.tables();
        let changed = tables.changed;
        tables.look_again();
        tables.changed = changed;
        tables.closed = false;
    }
}

#[derive(Debug)]
struct Tables {
    askers: BTreeMap<Family, Asker>,
    /// The tables that are there, and their numbers.
    seen: BTreeMap<(Family, Table), Info>,
    /// Looks until the list of tables is read again.
    trusted: u32,
    /// Somebody else changed something, and it was not told yet.
    changed: bool,
    /// We write: nothing is looked at.
    closed: bool,
    /// Why a look failed, if it was not told yet.
    failure: Option<Errno>,
}

impl Tables {
    /// Looks at the tables that were there the last time, and now and then at which are there.
    fn look(&mut self) {
        match self.trusted.checked_sub(1) {
            Some(left) => {
                self.trusted = left;
                let known: Vec<(Family, Table)> = self.seen.keys().copied().collect();
                self.compare(&known);
            }
            None => self.look_again(),
        }
    }

    /// Looks at all tables that are there.
    fn look_again(&mut self) {
        self.trusted = TRUST;
        let present: Vec<(Family, Table)> =
            self.askers.keys().flat_map(|family| present(*family).into_iter().map(|table| (*family, table))).collect();
        let before = self.seen.len();
        self.seen.retain(|key, _| present.contains(key));
        self.changed |= self.seen.len() < before;
        self.compare(&present);
    }

    /// Looks at these tables, which are there.
    fn compare(&mut self, present: &[(Family, Table)]) {
        for (family, table) in present {
            let Some(asker) = self.askers.get(family) else { continue };
            match asker.info(*table) {
                Ok(info) => self.changed |= self.seen.insert((*family, *table), info) != Some(info),
                Err(Errno::ENOENT) => self.changed |= self.seen.remove(&(*family, *table)).is_some(),
                Err(errno) => self.failure = Some(errno),
            }
        }
    }
}

/// The legacy tables that are there, in the network namespace of the calling thread.
fn present(family: Family) -> Vec<Table> {
    let file = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // Without the file there is no such kind of table.
    let names = fs::read_to_string(file).unwrap_or_default();
    Table::ALL.into_iter().filter(|table| names.lines().any(|name| name == table.as_str())).collect()
}
