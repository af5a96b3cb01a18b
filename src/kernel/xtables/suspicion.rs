//! What someone else seems to have changed, and who.

use std::collections::BTreeSet;
use std::fmt;

use super::ChainKey;

/// A process that changed the kernel's rules, as the kernel tells (`NFTA_GEN_PROC_PID` and `NFTA_GEN_PROC_NAME` of uapi
/// `linux/netfilter/nf_tables.h`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Culprit {
    /// In the initial process namespace.
    pub pid: u32,
    /// The name of the thread, at most 15 bytes.
    pub name: Box<str>,
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Which part of the kernel's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// These chains, whether they are there or not.
    Chains(BTreeSet<ChainKey>),
    /// All tables of all families.
    All,
}

impl Scope {
    /// This and the other.
    pub fn merge(&mut self, other: Scope) {
        match (&mut *self, other) {
            (Scope::Chains(mine), Scope::Chains(other)) => mine.extend(other),
            (_, Scope::All) => *self = Scope::All,
            (Scope::All, Scope::Chains(_)) => {}
        }
    }
}

/// Someone else seems to have changed our rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    pub scope: Scope,
    /// Everyone who may have done it; empty if the kernel does not tell.
    pub by: BTreeSet<Culprit>,
}

impl Suspicion {
    /// Anything may have been changed, by anyone.
    pub fn anything() -> Self {
        Suspicion { scope: Scope::All, by: BTreeSet::new() }
    }

    /// This and the other.
    pub fn merge(&mut self, other: Suspicion) {
        self.scope.merge(other.scope);
        self.by.extend(other.by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::xtables::{ChainName, Table};
    use crate::net::Family;

    fn chains(names: &[&str]) -> Scope {
        let key = |name: &&str| ChainKey { family: Family::V4, table: Table::Nat, name: ChainName::new(*name) };
        Scope::Chains(names.iter().map(key).collect())
    }

    #[test]
    fn scopes_add_up_and_all_swallows_everything() {
        let mut scope = chains(&["a"]);
        scope.merge(chains(&["b"]));
        assert_eq!(scope, chains(&["a", "b"]));
        scope.merge(Scope::All);
        scope.merge(chains(&["c"]));
        assert_eq!(scope, Scope::All);
    }
}
