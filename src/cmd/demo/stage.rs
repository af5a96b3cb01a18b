//! The lab with the rules that its node holds, and the table in which everything is noted.

use std::io::{self, Write};
use std::thread;

use super::attempt::{self, Outcome};
use super::fate::{Fate, Seen};
use super::names::{Names, in_interface};
use super::rules::{self, Way};
use super::steps::Attempt;
use super::table::{Row, Table};
use super::{Failure, failure};
use crate::kernel::xtables::{Changes, Driver, Xtables};
use crate::lab::{Host, Lab};
use crate::model::oracle::Packet;
use crate::net::{Family, Protocol};
use crate::sim::trace::Ruleset;

/// Where the demo plays.
pub struct Stage<'a, W> {
    pub lab: &'a Lab,
    pub table: Table<W>,
    driver: Driver,
    names: Names,
    /// Of each family that is served, as last read.
    rules: Vec<Ruleset>,
}

impl<'a, W: Write> Stage<'a, W> {
    /// The lab, without rules.
    pub fn new(lab: &'a Lab, driver: Driver, table: Table<W>) -> Self {
        Stage { lab, table, driver, names: Names::of_lab(lab), rules: Vec::new() }
    }

    /// The families that both the lab and the tools know.
    pub fn families(&self) -> Vec<Family> {
        let known = |family: &Family| self.lab.node().address(*family).is_some();
        self.driver.families().into_iter().filter(known).collect()
    }

    /// Reads the rules that the kernel really holds on the node.
    pub fn read_rules(&mut self) -> Result<&[Ruleset], Failure> {
        let mut driver = self.driver.clone();
        let families = self.families();
        let read = || families.into_iter().map(|family| Ruleset::observe(&mut driver, family)).collect();
        let rules: Result<Vec<Ruleset>, _> = self.lab.node().run(read).map_err(failure)?;
        self.rules = rules.map_err(failure)?;
        Ok(&self.rules)
    }

    /// A host by its name.
    pub fn host(&self, name: &str) -> Result<&'a Host, Failure> {
        self.lab.host(name).ok_or_else(|| failure(format!("there is no host {name}")))
    }

    /// Changes rules on the node as somebody else would.
    pub fn meddle(&self, changes: &Changes) -> Result<(), Failure> {
        let mut driver = self.driver.clone();
        // The kernel tells the name of the thread.
        let stranger = || thread::Builder::new().name("a stranger".to_owned());
        let apply = || thread::scope(|scope| Ok(stranger().spawn_scoped(scope, || driver.apply(changes))?.join()));
        let joined: io::Result<_> = self.lab.node().run(apply).map_err(failure)?;
        match joined.map_err(failure)? {
            Ok(applied) => applied.map_err(failure),
            Err(_) => Err(failure("the stranger's thread has panicked")),
        }
    }

    /// Makes connections and notes what became of them, unless their family is not served here.
    pub fn attempt(&mut self, attempt: &Attempt) -> Result<(), Failure> {
        let family = Family::of(&attempt.to.ip());
        let from = self.host(attempt.from)?;
        let Some(rules) = self.rules.iter().find(|rules| rules.family() == family) else { return Ok(()) };
        let Some(source) = attempt::source(from, &attempt.to) else { return Ok(()) };
        let packet = Packet {
            source,
            destination: attempt.to.ip(),
            protocol: Protocol::Tcp,
            port: attempt.to.port(),
            in_interface: in_interface(self.lab, from),
        };
        let way = rules::way(rules, &self.lab.oracle_host(), &packet, &self.names)
            .unwrap_or_else(|error| Way { fate: Fate::Other(error.to_string()), chains: "?".to_owned() });
        let outcome = attempt::make(attempt, from);
        let happened = outcome.fate(source);
        let row = Row {
            who: format!("{} → {}", attempt.from, attempt.to),
            reached: reached(&outcome, &happened),
            seen: self.seen(&outcome, &happened),
            time: Some(outcome.median()),
            below: way.chains,
            problem: problem(&attempt.expected, &happened, &way.fate),
        };
        self.table.count(outcome.count());
        self.table.row(&row);
        Ok(())
    }

    fn seen(&self, outcome: &Outcome, fate: &Fate) -> String {
        let mut names: Vec<String> = outcome.seen.iter().map(|address| self.names.of(address)).collect();
        names.dedup();
        let names = names.join(" ");
        match fate {
            Fate::Answered { seen: Seen::Masqueraded, .. } => format!("{names}, masqueraded"),
            _ => names,
        }
    }
}

fn reached(outcome: &Outcome, fate: &Fate) -> String {
    let answers: Vec<String> = outcome.answers.iter().map(|(pod, count)| format!("{pod} ×{count}")).collect();
    match fate {
        _ if !answers.is_empty() => answers.join("  "),
        Fate::Dropped => "dropped; given up after".to_owned(),
        fate => fate.to_string(),
    }
}

/// The rules must say what happened, and both must be what was expected.
pub fn problem(expected: &Fate, happened: &Fate, rules: &Fate) -> Option<String> {
    if happened != expected {
        Some(format!("expected:  {expected}\nhappened:  {happened}\nthe rules: {rules}"))
    } else if rules != expected {
        Some(format!("expected:  {expected}, and so it was\nthe rules: {rules}"))
    } else {
        None
    }
}
