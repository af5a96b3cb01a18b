//! A kernel that holds xtables rules in memory.
//!
//! It interprets the very text that the driver sends to `iptables-restore`, makes the checks that the tools and the
//! kernel make, and answers with the tools' own messages, so that a test meets the same code on the way in and out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::faults::{Faults, SplitMix};
use super::table::{Place, SimTable, out_of_place};
use crate::kernel::xtables::decode::RuleParser;
use crate::kernel::xtables::order::scripts;
use crate::kernel::xtables::restore::explain;
use crate::kernel::xtables::variant::Variant;
use crate::kernel::xtables::{
    ApplyError, ChainName, Changes, ObserveError, ObservedChain, ObservedRule, Rule, Table, Target, Xtables,
};
use crate::net::Family;

/// What a restore says where another program holds the lock.
const LOCKED: &str = "Another app is currently holding the xtables lock. Stopped waiting after 5s.\n";

/// A test's own reason to refuse a rule.
type Refusal = Box<dyn Fn(&Rule) -> bool + Send>;

/// A simulated kernel, both families. To keep a hand on it while an engine owns it, share it:
/// [`Xtables`] is implemented for `Arc<Mutex<SimKernel>>` too.
pub struct SimKernel {
    variant: Variant,
    tables: BTreeMap<(Family, Table), SimTable>,
    faults: Faults,
    random: SplitMix,
    refuse_if: Option<Refusal>,
    commits: usize,
}

/// What a restore that failed leaves on standard error, and its exit status.
struct Failure {
    code: i32,
    stderr: String,
}

impl SimKernel {
    /// An empty kernel, to which a driver of this variant writes.
    pub fn new(variant: Variant) -> Self {
        let faults = Faults::default();
        SimKernel { variant, tables: BTreeMap::new(), faults, random: SplitMix(0), refuse_if: None, commits: 0 }
    }

    /// From now on, fails like this.
    pub fn set_faults(&mut self, faults: Faults) {
        self.random = SplitMix(faults.seed);
        self.faults = faults;
    }

    /// From now on, refuses every COMMIT that adds a rule for which `refuse` is true. iptables-nft names the rule's
    /// line then; legacy only says that COMMIT failed.
    pub fn refuse_if(&mut self, refuse: impl Fn(&Rule) -> bool + Send + 'static) {
        self.refuse_if = Some(Box::new(refuse));
    }

    /// Refuses no rule any more.
    pub fn refuse_none(&mut self) {
        self.refuse_if = None;
    }

    /// How many COMMITs succeeded.
    pub fn commits(&self) -> usize {
        self.commits
    }

    /// All chains of a table, built-in ones too; empty if nobody has used the table yet.
    pub fn chains(&self, family: Family, table: Table) -> BTreeMap<ChainName, Vec<ObservedRule>> {
        let table = self.tables.get(&(family, table));
        let chains = table.into_iter().flat_map(SimTable::chains);
        chains.map(|(name, chain)| (ChainName::new(name.clone()), chain.rules.clone())).collect()
    }

    /// What another program does: restore input (`*nat`, `-A POSTROUTING …`, `COMMIT`), never failing by fault. Rules
    /// that weir does not know are kept verbatim.
    ///
    /// # Errors
    /// The message of `iptables-restore`.
    pub fn edit(&mut self, family: Family, text: &str) -> Result<(), String> {
        let (faults, refuse_if) = (std::mem::take(&mut self.faults), self.refuse_if.take());
        let outcome = self.restore(family, text, true);
        self.faults = faults;
        self.refuse_if = refuse_if;
        outcome.map_err(|failure| failure.stderr)
    }

    /// Deletes one rule by its place, as another program may; `None` if it is not there.
    pub fn remove_rule(&mut self, family: Family, table: Table, chain: &str, at: usize) -> Option<ObservedRule> {
        let table = self.tables.get_mut(&(family, table))?;
        let rule = table.delete_at(chain, at);
        table.commit();
        rule
    }

    /// Deletes a chain and every rule that goes to it, as another program may. False if it is not there.
    pub fn remove_chain(&mut self, family: Family, table: Table, chain: &str) -> bool {
        let Some(table) = self.tables.get_mut(&(family, table)) else { return false };
        let goes_there = |rule: &ObservedRule| match rule {
            ObservedRule::Known(Rule { target: Some(Target::Jump(to) | Target::Goto(to)), .. }) => to.as_str() == chain,
            _ => false,
        };
        let mut callers: Vec<(Arc<str>, usize)> = Vec::new();
        for (name, content) in table.chains() {
            let found = content.rules.iter().enumerate().filter(|(_, rule)| goes_there(rule));
            callers.extend(found.map(|(at, _)| (name.clone(), at)));
        }
        // From the end, so that the places stay right.
        for (name, at) in callers.into_iter().rev() {
            table.delete_at(&name, at);
        }
        table.flush(chain);
        let deleted = table.delete_chain(chain).is_ok();
        table.commit();
        deleted
    }

    /// `iptables -F` and `-X` of one table: everything but the built-in chains is gone.
    pub fn flush_table(&mut self, family: Family, table: Table) {
        self.tables.insert((family, table), SimTable::new(table));
    }

    /// Interprets restore input. `foreign`: rules that are not understood are kept and not refused.
    fn restore(&mut self, family: Family, text: &str, foreign: bool) -> Result<(), Failure> {
        let mut restore = Restore { family, foreign, parser: RuleParser::new(family), current: None, line: 0 };
        for line in text.lines() {
            restore.line += 1;
            if let Err(failure) = restore.take_line(self, line) {
                if let Some(Open { table, .. }) = restore.current {
                    self.table(family, table).roll_back();
                }
                return Err(failure);
            }
        }
        match restore.current {
            Some(Open { table, .. }) => {
                self.table(family, table).roll_back();
                Err(restore.failed("COMMIT expected"))
            }
            None => Ok(()),
        }
    }

    fn table(&mut self, family: Family, table: Table) -> &mut SimTable {
        self.tables.entry((family, table)).or_insert_with(|| SimTable::new(table))
    }
}

/// A table between its `*` line and its COMMIT.
#[derive(Clone, Copy)]
struct Open {
    table: Table,
    /// The first line whose rule the kernel will refuse.
    refused: Option<usize>,
}

/// One run of `iptables-restore --noflush`.
struct Restore {
    family: Family,
    foreign: bool,
    parser: RuleParser,
    current: Option<Open>,
    line: usize,
}

impl Restore {
    fn failed(&self, what: &str) -> Failure {
        Failure { code: 1, stderr: format!("iptables-restore: line {} failed: {what}\n", self.line) }
    }

    fn take_line(&mut self, kernel: &mut SimKernel, line: &str) -> Result<(), Failure> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let Some(open) = self.current else {
            let name = line.strip_prefix('*').unwrap_or_default();
            let table = Table::ALL.into_iter().find(|table| table.as_str() == name);
            let table = table.ok_or_else(|| self.failed("table name invalid"))?;
            self.current = Some(Open { table, refused: None });
            return Ok(());
        };
        if line == "COMMIT" {
            return self.commit(kernel, open);
        }
        if let Some(declaration) = line.strip_prefix(':') {
            let name = declaration.split(' ').next().unwrap_or_default();
            let declared = kernel.table(self.family, open.table).declare(name);
            return declared.map_err(|why| self.failed(why));
        }
        self.command(kernel, open, line)
    }

    fn command(&mut self, kernel: &mut SimKernel, open: Open, line: &str) -> Result<(), Failure> {
        let mut words = line.splitn(3, ' ');
        let (command, chain) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let text = words.next().unwrap_or_default();
        let table = kernel.table(self.family, open.table);
        let done = match command {
            "-N" => table.new_chain(chain),
            "-X" => table.delete_chain(chain),
            "-A" | "-I" | "-D" => {
                let rule = self.rule(table, text)?;
                let refused = command != "-D" && self.refuses(kernel, open.table, &rule);
                if refused && open.refused.is_none() {
                    self.current = Some(Open { refused: Some(self.line), ..open });
                }
                let table = kernel.table(self.family, open.table);
                match command {
                    "-A" => table.add(chain, Place::End, rule),
                    "-I" => table.add(chain, Place::Head, rule),
                    _ => table.delete_rule(chain, &rule),
                }
            }
            _ => Err("unknown option"),
        };
        done.map_err(|why| self.failed(why))
    }

    fn rule(&mut self, table: &SimTable, text: &str) -> Result<ObservedRule, Failure> {
        if let Some(rule) = self.parser.parse(text, &|name| table.chain(name)) {
            return Ok(ObservedRule::Known(rule));
        }
        let any = |name: &str| (name.len() <= ChainName::MAX).then(|| ChainName::new(name));
        match self.parser.parse(text, &any).and_then(|rule| rule.target) {
            _ if self.foreign => Ok(ObservedRule::Verbatim(text.into())),
            Some(target) => Err(self.failed(&format!("Couldn't load target of {target:?}"))),
            None => Err(self.failed("Bad argument")),
        }
    }

    fn refuses(&self, kernel: &SimKernel, table: Table, rule: &ObservedRule) -> bool {
        match rule {
            ObservedRule::Known(rule) => {
                out_of_place(table, rule) || kernel.refuse_if.as_ref().is_some_and(|refuse| refuse(rule))
            }
            ObservedRule::Verbatim(_) => false,
        }
    }

    fn commit(&mut self, kernel: &mut SimKernel, open: Open) -> Result<(), Failure> {
        if kernel.random.chance(kernel.faults.busy) {
            return Err(Failure { code: 4, stderr: LOCKED.to_owned() });
        }
        if kernel.random.chance(kernel.faults.refused) {
            return Err(self.failed("Invalid argument"));
        }
        if let Some(line) = open.refused {
            // Only nf_tables tells which rule it was.
            self.line = if kernel.variant == Variant::Nft { line } else { self.line };
            return Err(self.failed("Invalid argument"));
        }
        let table = kernel.table(self.family, open.table);
        if let Some(name) = table.looping() {
            return Err(self.failed(&format!("Too many levels of symbolic links: {name}")));
        }
        table.commit();
        kernel.commits += 1;
        self.current = None;
        if kernel.random.chance(kernel.faults.partial) {
            let stderr = "killed after a COMMIT: Resource temporarily unavailable\n".to_owned();
            return Err(Failure { code: 1, stderr });
        }
        Ok(())
    }
}

impl Xtables for SimKernel {
    fn observe(
        &mut self,
        family: Family,
        table: Table,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        if self.random.chance(self.faults.busy) {
            return Err(ObserveError { message: "iptables-save: Resource temporarily unavailable".to_owned() });
        }
        let table = self.tables.get(&(family, table));
        for (name, chain) in table.into_iter().flat_map(SimTable::chains) {
            let (name, builtin, rules) = (ChainName::new(name.clone()), chain.builtin, chain.rules.clone());
            visit(ObservedChain { name, builtin, rules });
        }
        Ok(())
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        let scripts = scripts(changes, self.variant)?;
        // As the driver does: both families are tried.
        let mut outcome = Ok(());
        for script in &scripts {
            let restored = self.restore(script.family, &script.text(), false);
            let restored = restored.map_err(|f| explain(script, "iptables-restore", Some(f.code), &f.stderr));
            outcome = outcome.and(restored);
        }
        outcome
    }
}

impl<K: Xtables> Xtables for Arc<Mutex<K>> {
    fn observe(
        &mut self,
        family: Family,
        table: Table,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).observe(family, table, visit)
    }

    fn observe_chains(
        &mut self,
        family: Family,
        table: Table,
        names: &BTreeSet<ChainName>,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).observe_chains(family, table, names, visit)
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).apply(changes)
    }
}
