//! A kernel that tells what was read and written.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use weir::kernel::xtables::{ApplyError, ChainKey, ChainName, Changes, ObserveError, ObservedChain, Table, Xtables};
use weir::net::Family;

use crate::kernel::{Chains, Shared, all};

/// What a backend did.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Tables that were read as a whole.
    pub tables: usize,
    /// Chains that were read by name.
    pub read: BTreeSet<ChainKey>,
    /// Changes, in order.
    pub written: Vec<Changes>,
    /// What the kernel held after each.
    pub after: Vec<Chains>,
}

impl Traffic {
    /// Every chain in which something was written.
    pub fn chains_written(&self) -> BTreeSet<ChainKey> {
        let builtin = self.written.iter().flat_map(|changes| changes.builtin.iter().map(|change| change.chain()));
        self.written.iter().flat_map(|changes| changes.chains.keys()).chain(builtin).cloned().collect()
    }
}

/// The kernel with its books.
#[derive(Clone)]
pub struct Spy {
    kernel: Shared,
    traffic: Arc<Mutex<Traffic>>,
}

impl Spy {
    pub fn new(kernel: &Shared) -> Self {
        Spy { kernel: kernel.clone(), traffic: Arc::default() }
    }

    /// What was done since this was asked last.
    pub fn traffic(&self) -> Traffic {
        std::mem::take(&mut self.traffic.lock().unwrap())
    }
}

impl Xtables for Spy {
    fn observe(
        &mut self,
        family: Family,
        table: Table,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        self.traffic.lock().unwrap().tables += 1;
        self.kernel.observe(family, table, visit)
    }

    fn observe_chains(
        &mut self,
        family: Family,
        table: Table,
        names: &BTreeSet<ChainName>,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        let keys = names.iter().map(|name| ChainKey { family, table, name: name.clone() });
        self.traffic.lock().unwrap().read.extend(keys);
        self.kernel.observe_chains(family, table, names, visit)
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        let result = self.kernel.apply(changes);
        let mut traffic = self.traffic.lock().unwrap();
        traffic.written.push(changes.clone());
        traffic.after.push(all(&self.kernel));
        result
    }
}
