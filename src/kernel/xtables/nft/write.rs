//! A difference as transactions.

use std::collections::HashSet;
use std::time::Instant;

use super::driver::{Stop, Written};
use super::edit::{Edit, edits};
use super::hook::hook;
use super::read;
use super::sets::SetIndexes;
use super::transaction::{Outcome, Transaction};
use super::wire::{self, Handle, Spot};
use crate::kernel::ipset::SetName;
use crate::kernel::netlink::{NetlinkError, Socket};
use crate::kernel::watch::{OwnWrites, Write, Writing};
use crate::kernel::xtables::order::{Content, Script, Section};
use crate::kernel::xtables::{
    ApplyError, ApplyErrorKind, BuiltinChange, ChainKey, ChainName, Changes, Match, ObservedRule, Rule, Table,
};
use crate::net::Family;

/// A larger change is cut: while a transaction is in the kernel's hands, all other changes of the ruleset wait (20,000
/// messages take 0.3 s, 320,000 take 3 s; 6.18).
const MESSAGES: usize = 20_000;

/// Whole lists are read where more chains than this are concerned, single chains otherwise.
const FEW_CHAINS: usize = 64;

/// More than any message of ours.
const MARGIN: usize = 8 << 10;

/// How often a transaction that depends on nothing is sent again because others changed something meanwhile.
const RESENDS: u32 = 100;

/// What one transaction may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// In bytes.
    capacity: usize,
}

impl Limits {
    pub(super) fn new(capacity: usize) -> Self {
        Limits { capacity: capacity.saturating_sub(MARGIN) }
    }

    /// Whether the changes of a family are few enough for one transaction.
    pub(super) fn fits(changes: &Changes, family: Family) -> bool {
        let chains = changes.chains.iter().filter(|(key, _)| key.family == family);
        let weight = |before: usize, after: usize| 2 + before.max(after);
        let chains: usize = chains
            .map(|(_, change)| {
                weight(change.before.as_ref().map_or(0, Vec::len), change.after.as_ref().map_or(0, Vec::len))
            })
            .sum();
        chains + changes.builtin.len() <= MESSAGES
    }
}

/// Writes the changes of one family.
pub(super) struct Writer<'a> {
    socket: &'a mut Socket,
    family: Family,
    limits: Limits,
    atomic: bool,
    own: &'a OwnWrites,
    written: &'a mut Written,
    transaction: Transaction,
    generation: u32,
    /// The tables that the open transaction is about.
    tables: HashSet<Table>,
    sets: SetIndexes,
    /// The tables that are known to be there.
    made: HashSet<Table>,
    /// All chains of the family, where many are concerned.
    listed: Option<HashSet<(Table, ChainName)>>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        socket: &'a mut Socket,
        family: Family,
        limits: Limits,
        atomic: bool,
        own: &'a OwnWrites,
        written: &'a mut Written,
    ) -> Self {
        Writer {
            socket,
            family,
            limits,
            atomic,
            own,
            written,
            transaction: Transaction::new(),
            generation: 0,
            tables: HashSet::new(),
            sets: SetIndexes::default(),
            made: HashSet::new(),
            listed: None,
        }
    }

    /// Writes everything that differs from what the kernel holds.
    pub(super) fn write(mut self, script: &Script<'_>) -> Result<(), Stop> {
        self.generation = read::generation(self.socket)?;
        // The socket may be another one since the last change.
        self.own.port(self.socket.port()?);
        // Several transactions: watching is suspended once for all of them.
        let _all: Option<Writing> = (!self.atomic).then(|| self.own.begin(Write::Large));
        let chains: usize = script.sections.iter().map(|section| section.fill.len() + section.delete.len()).sum();
        if chains > FEW_CHAINS {
            self.list()?;
        }
        for section in &script.sections {
            // What is read of a table must not be older than what was written to it.
            if !self.atomic && self.tables.contains(&section.table) {
                self.commit()?;
            }
            self.section(section)?;
            if !self.transaction.is_empty() {
                self.tables.insert(section.table);
            }
        }
        self.commit()
    }

    fn list(&mut self) -> Result<(), NetlinkError> {
        let mut listed = HashSet::new();
        read::chains(self.socket, self.family, &mut |chain| {
            let table = Table::ALL.into_iter().find(|table| table.as_str() == chain.table);
            if let Some(table) = table.filter(|_| chain.name.len() <= ChainName::MAX) {
                listed.insert((table, ChainName::new(chain.name)));
            }
        })?;
        self.listed = Some(listed);
        Ok(())
    }

    fn section(&mut self, section: &Section<'_>) -> Result<(), Stop> {
        let table = section.table;
        // Leaves first: a chain is there before a rule goes to it.
        for content in &section.fill {
            self.fill(table, content)?;
            self.cut()?;
        }
        for change in &section.builtin {
            self.builtin(change)?;
        }
        let deleted = self.existing(table, &section.delete)?;
        for name in &deleted {
            self.empty(table, name)?;
        }
        if !self.atomic && !deleted.is_empty() && self.transaction.len() + deleted.len() > MESSAGES {
            self.commit()?;
        }
        for name in deleted {
            self.delete(table, name)?;
            self.cut()?;
        }
        Ok(())
    }

    fn key(&self, table: Table, name: &ChainName) -> ChainKey {
        ChainKey { family: self.family, table, name: name.clone() }
    }

    fn make(&mut self, key: &ChainKey) -> Result<(), Stop> {
        self.make_table(key.table)?;
        let (family, table, name) = (self.family, key.table, key.name.as_str());
        self.add(Some(key), |batch| wire::make_chain(batch, family, table, name, hook(table, name).as_ref()))
    }

    fn make_table(&mut self, table: Table) -> Result<(), Stop> {
        let family = self.family;
        if self.made.insert(table) {
            self.add(None, |batch| wire::make_table(batch, family, table))?;
        }
        Ok(())
    }

    fn is_there(&mut self, table: Table, name: &ChainName) -> Result<bool, NetlinkError> {
        match &self.listed {
            Some(listed) => Ok(listed.contains(&(table, name.clone()))),
            None => Ok(read::chain(self.socket, self.family, table, name.as_str())?.is_some()),
        }
    }

    /// What the chain holds; nothing if it is not there.
    fn held(&mut self, table: Table, name: &ChainName) -> Result<Vec<(Handle, ObservedRule)>, Stop> {
        if self.listed.is_some() && !self.is_there(table, name)? {
            return Ok(Vec::new());
        }
        Ok(read::rules(self.socket, self.family, table, name.as_str(), &mut self.sets)?)
    }

    fn fill(&mut self, table: Table, content: &Content<'_>) -> Result<(), Stop> {
        let held = self.held(table, content.chain)?;
        let key = self.key(table, content.chain);
        let is_new = held.is_empty() && !self.is_there(table, content.chain)?;
        if is_new {
            self.make(&key)?;
        }
        let wanted: Vec<&Rule> = content.iter().collect();
        for edit in edits(&held, &wanted) {
            self.edit(&key, &edit, !is_new)?;
        }
        Ok(())
    }

    fn edit(&mut self, key: &ChainKey, edit: &Edit<'_>, depends: bool) -> Result<(), Stop> {
        let (family, table, name) = (self.family, key.table, key.name.as_str());
        match edit {
            Edit::Put(spot, rule) => self.put(key, *spot, rule)?,
            Edit::Delete(handle) => {
                self.add(Some(key), |batch| wire::delete_rules(batch, family, table, name, Some(*handle)))?;
            }
        }
        self.transaction.depends |= depends;
        Ok(())
    }

    /// A rule names sets, and the kernel wants their indexes.
    fn put(&mut self, key: &ChainKey, spot: Spot, rule: &Rule) -> Result<(), Stop> {
        for item in &rule.matches {
            if let Match::Set { set, .. } = item
                && self.sets.ask_index(self.socket, set)?.is_none()
            {
                return Err(Stop::Failed(no_such_set(key, set)));
            }
        }
        self.make_room()?;
        let (family, table, name) = (self.family, key.table, key.name.as_str());
        self.transaction.add(Some(key), |batch| wire::put_rule(batch, family, table, name, spot, rule, &self.sets));
        Ok(())
    }

    /// A rule of a chain that is not ours alone.
    fn builtin(&mut self, change: &BuiltinChange) -> Result<(), Stop> {
        let key = change.chain();
        let (spot, rule) = match change {
            BuiltinChange::Insert(_, rule) => (Spot::Head, rule),
            BuiltinChange::Append(_, rule) => (Spot::Tail, rule),
            BuiltinChange::Delete(_, rule) => return self.delete_first_equal(key, rule),
            BuiltinChange::CreateChain(_) if self.is_there(key.table, &key.name)? => return Ok(()),
            BuiltinChange::CreateChain(_) => return self.make(key),
        };
        // The tool may have deleted a built-in chain that was empty: 1.8.8 and later do with `-X`.
        if hook(key.table, key.name.as_str()).is_some() {
            self.make(key)?;
        }
        self.transaction.depends = true;
        self.put(key, spot, rule)
    }

    /// There may be none any more: then that is as it should be.
    fn delete_first_equal(&mut self, key: &ChainKey, rule: &Rule) -> Result<(), Stop> {
        let held = read::rules(self.socket, self.family, key.table, key.name.as_str(), &mut self.sets)?;
        match held.iter().find(|(_, held)| held == rule) {
            Some((handle, _)) => self.edit(key, &Edit::Delete(*handle), true),
            None => Ok(()),
        }
    }

    /// Those of the chains that are there.
    fn existing<'n>(&mut self, table: Table, names: &[&'n ChainName]) -> Result<Vec<&'n ChainName>, Stop> {
        let mut existing = Vec::with_capacity(names.len());
        for name in names {
            if self.is_there(table, name)? {
                existing.push(*name);
            }
        }
        Ok(existing)
    }

    fn empty(&mut self, table: Table, name: &ChainName) -> Result<(), Stop> {
        let (family, key) = (self.family, self.key(table, name));
        self.add(Some(&key), |batch| wire::delete_rules(batch, family, table, name.as_str(), None))?;
        self.transaction.depends = true;
        Ok(())
    }

    fn delete(&mut self, table: Table, name: &ChainName) -> Result<(), Stop> {
        let (family, key) = (self.family, self.key(table, name));
        self.add(Some(&key), |batch| wire::delete_chain(batch, family, table, name.as_str()))?;
        self.transaction.depends = true;
        Ok(())
    }

    fn add(
        &mut self,
        about: Option<&ChainKey>,
        write: impl FnOnce(&mut crate::kernel::netlink::Batch),
    ) -> Result<(), Stop> {
        self.make_room()?;
        self.transaction.add(about, write);
        Ok(())
    }

    /// Ends a transaction that takes no more.
    fn make_room(&mut self) -> Result<(), Stop> {
        match self.transaction.size() > self.limits.capacity {
            true if self.atomic => Err(Stop::TooLarge),
            true => self.commit(),
            false => Ok(()),
        }
    }

    /// Ends the transaction at a good place if it is large enough.
    fn cut(&mut self) -> Result<(), Stop> {
        if !self.atomic && self.transaction.len() >= MESSAGES { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), Stop> {
        if self.transaction.is_empty() {
            return Ok(());
        }
        let writing = self.own.begin(Write::of_messages(self.transaction.len()));
        for _ in 0..RESENDS {
            let began = Instant::now();
            match self.transaction.commit(self.socket, self.generation) {
                Outcome::Done => {
                    self.written.transactions += 1;
                    self.written.messages += self.transaction.len() as u64;
                    self.written.bytes += self.transaction.size() as u64;
                    self.written.kernel += began.elapsed();
                    // As the kernel counts: 0 is left out.
                    self.generation = self.generation.checked_add(1).unwrap_or(1);
                    writing.made(self.generation);
                    self.transaction.clear();
                    self.tables.clear();
                    return Ok(());
                }
                Outcome::Outdated if self.transaction.depends => return Err(Stop::Outdated),
                Outcome::Outdated => self.generation = read::generation(self.socket)?,
                Outcome::Failed(error) => return Err(Stop::Failed(error)),
            }
        }
        Err(Stop::Outdated)
    }
}

fn no_such_set(chain: &ChainKey, set: &SetName) -> ApplyError {
    ApplyError {
        kind: ApplyErrorKind::Refused,
        message: format!(
            "a rule of chain {chain} looks in the ipset {set}, which is not there; remedy: make the set before the rule"
        ),
        chain: Some(chain.clone()),
    }
}
