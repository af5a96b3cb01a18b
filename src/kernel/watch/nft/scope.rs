//! Which of others' changes matter to us.

use std::collections::BTreeSet;

use super::event::Event;
use crate::kernel::xtables::ownership::{SHARED_FIREWALL, is_owned};
use crate::kernel::xtables::{ChainKey, ChainName, Scope, Table};
use crate::net::{Family, PerFamily};

/// With more chains than this, reading them one by one is no cheaper than reading all.
const MANY: usize = 4096;

/// The chains of iptables that hang in the packet's way, of all tables. Others' rules there, before or after ours,
/// are theirs; ours must stay.
const BUILTIN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// What a commit of somebody else touched so far, as far as it matters.
#[derive(Debug)]
pub(super) struct Touched {
    families: PerFamily<bool>,
    scope: Option<Scope>,
    /// The chain added last: rules of a chain come one after the other.
    last: Option<ChainKey>,
}

impl Touched {
    /// Changes of these families matter.
    pub(super) fn new(families: PerFamily<bool>) -> Self {
        Touched { families, scope: None, last: None }
    }

    pub(super) fn add(&mut self, event: &Event<'_>) {
        match *event {
            Event::Table { family, table } => {
                if self.matters(family, table).is_some() {
                    self.scope = Some(Scope::All);
                }
            }
            Event::Chain { family, table, chain } => self.add_chain(family, table, chain),
            Event::Generation(_) => {}
        }
    }

    /// All of it; what follows is another commit.
    pub(super) fn take(&mut self) -> Option<Scope> {
        self.last = None;
        self.scope.take()
    }

    /// The table, if it is one that we write to.
    fn matters(&self, family: Family, table: &str) -> Option<Table> {
        let found = Table::ALL.into_iter().find(|candidate| candidate.as_str() == table);
        found.filter(|_| *self.families.get(family))
    }

    fn add_chain(&mut self, family: Family, table: &str, chain: &str) {
        let Some(table) = self.matters(family, table) else { return };
        let is_last = |key: &ChainKey| (key.family, key.table, key.name.as_str()) == (family, table, chain);
        if self.scope == Some(Scope::All) || self.last.as_ref().is_some_and(is_last) || !is_watched(table, chain) {
            return;
        }
        if chain.len() > ChainName::MAX {
            // No tool of iptables can name it, but it has a name of ours.
            self.scope = Some(Scope::All);
            return;
        }
        let key = ChainKey { family, table, name: ChainName::new(chain) };
        self.last = Some(key.clone());
        let chains = self.scope.get_or_insert_with(|| Scope::Chains(BTreeSet::new()));
        chains.merge(Scope::Chains(BTreeSet::from([key])));
        if matches!(chains, Scope::Chains(chains) if chains.len() > MANY) {
            self.scope = Some(Scope::All);
        }
    }
}

/// Whether rules of ours are in the chain, or may be.
fn is_watched(table: Table, chain: &str) -> bool {
    is_owned(table, chain) || BUILTIN.contains(&chain) || (table == Table::Filter && chain == SHARED_FIREWALL)
}
