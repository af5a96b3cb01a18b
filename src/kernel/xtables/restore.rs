//! The driver that reads with `iptables-save` and writes with `iptables-restore --noflush`.
//!
//! One process per family and change, which gets only what changes.

mod failure;

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::Duration;

use super::changes::try_all;
use super::decode::{DecodeError, read_tables};
use super::order::{Script, Section, scripts};
use super::process::{Input, RunError, run};
use super::variant::{Binaries, Tools, Variant};
use super::{ApplyError, ApplyErrorKind, Changes, ObserveError, ObservedChain, Table, Xtables};
use crate::kernel::Traffic;
use crate::kernel::watch::{OwnWrites, Write as OwnWrite};
use crate::net::Family;
pub(crate) use failure::explain;
use failure::remedy;

/// How long iptables-legacy waits for the lock that all its users share, in seconds (contract 3.10).
const LOCK_WAIT: &str = "5";

/// How long a restore may take. 320,000 rules take 4 s on legacy tables, and 20 to 50 s through iptables-nft.
const RESTORE_PATIENCE: Duration = Duration::from_secs(600);

/// How long a save may take: iptables-nft 1.8.7 needs 216 s for 320,000 rules.
const SAVE_PATIENCE: Duration = Duration::from_secs(600);

/// Reads and writes the tables of the network namespace that the calling thread is in.
#[derive(Clone, Debug)]
pub struct RestoreDriver {
    tools: Tools,
    patience: Duration,
    own: OwnWrites,
    traffic: Traffic,
}

impl RestoreDriver {
    /// Drives what [`detect`](super::variant::detect) found.
    pub fn new(tools: Tools) -> Self {
        RestoreDriver { tools, patience: RESTORE_PATIENCE, own: OwnWrites::new(), traffic: Traffic::default() }
    }

    /// Tells its writes there from now on.
    pub fn tell(&mut self, own: OwnWrites) {
        self.own = own;
    }

    /// Counts what is written from now on there.
    pub fn count(&mut self, traffic: Traffic) {
        self.traffic = traffic;
    }

    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    fn binaries(&self, family: Family) -> Result<&Binaries, String> {
        let binaries = self.tools.binaries.get(family).as_ref();
        binaries.map_err(|error| format!("{family} cannot be served: {error}"))
    }

    /// Whether the tool can write the tables of a family here: lets it read an empty change of each, without effect. A
    /// legacy kernel loads and makes the tables for that.
    ///
    /// # Errors
    /// What the tool said: no permission, a table that the kernel does not have.
    pub fn probe(&self, family: Family) -> Result<(), ApplyError> {
        let sections = Table::ALL.map(Section::new).into();
        self.feed(&Script { family, sections }, &["--noflush", "--test", "--wait", LOCK_WAIT])
    }

    fn restore(&self, script: &Script) -> Result<(), ApplyError> {
        self.feed(script, &["--noflush", "--wait", LOCK_WAIT])
    }

    fn feed(&self, script: &Script, arguments: &[&str]) -> Result<(), ApplyError> {
        let unavailable = |message| ApplyError { kind: ApplyErrorKind::Unavailable, message, chain: None };
        let program = &self.binaries(script.family).map_err(unavailable)?.restore;
        let write = |stdin: &mut dyn Write| script.write_to(&mut self.traffic.lines(stdin));
        match run(program, arguments, Input::Stream(&write), self.patience, |_| ()) {
            Ok(done) if done.code == Some(0) => Ok(()),
            Ok(done) => Err(explain(script, &name(program), done.code, &done.stderr)),
            Err(RunError::Start(error)) => Err(unavailable(cannot_start(program, &error))),
            Err(error @ (RunError::TimedOut(_) | RunError::Wait(_))) => Err(ApplyError {
                kind: ApplyErrorKind::Busy,
                message: format!("{}: {error}", name(program)),
                chain: None,
            }),
        }
    }
}

impl Xtables for RestoreDriver {
    fn observe(
        &mut self,
        family: Family,
        table: Table,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        let failed = |message| ObserveError { message };
        let program = &self.binaries(family).map_err(failed)?.save;
        if self.tools.variant == Variant::Legacy && is_absent(family, table) {
            return Ok(());
        }
        let read = |output: &mut dyn BufRead| read_tables(family, output, &mut |_, chain| visit(chain));
        let done = match run(program, &["-t", table.as_str()], Input::None, SAVE_PATIENCE, read) {
            Ok(done) => done,
            Err(RunError::Start(error)) => return Err(failed(cannot_start(program, &error))),
            Err(error) => return Err(failed(format!("{} -t {table}: {error}", name(program)))),
        };
        match (done.output, done.code) {
            (Ok(()), Some(0)) => Ok(()),
            // Only half of the output was read: its own complaint about that is no news.
            (Err(error @ (DecodeError::Incompatible { .. } | DecodeError::Malformed { .. })), _)
            | (Err(error), Some(0)) => Err(failed(format!("{} -t {table}: {error}", name(program)))),
            (_, code) => Err(failed(saying(&format!("{} -t {table}", name(program)), code, &done.stderr))),
        }
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        let scripts = scripts(changes, self.tools.variant)?;
        let _writing = self.own.begin(OwnWrite::ByTool);
        try_all(scripts.iter().map(|script| (script.family, self.restore(script))))
    }
}

/// Whether a legacy table was never used here. Reading it with the tool would make it: a look must not.
fn is_absent(family: Family, table: Table) -> bool {
    // What else may be wrong, the tool tells.
    legacy_tables(family).is_ok_and(|tables| !tables.contains(&table))
}

/// The legacy tables that are in use in this network namespace, of those that weir knows.
///
/// # Errors
/// The kernel has them and does not tell: only root may read the list.
pub fn legacy_tables(family: Family) -> io::Result<Vec<Table>> {
    let names = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    match fs::read_to_string(names) {
        Ok(names) => {
            Ok(Table::ALL.into_iter().filter(|table| names.lines().any(|name| name == table.as_str())).collect())
        }
        // The module is not loaded.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn name(program: &Path) -> String {
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

fn cannot_start(program: &Path, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; remedy: `apt-get install iptables`, or the package of that name elsewhere",
        io::ErrorKind::PermissionDenied => "; remedy: run as root",
        _ => "",
    };
    format!("cannot start {}: {error}{hint}", program.display())
}

/// One line: who, what it said or how it ended, and the remedy where there is one.
fn saying(who: &str, code: Option<i32>, stderr: &str) -> String {
    let said = failure::essence(stderr);
    let said = match (said.is_empty(), code) {
        (false, _) => said,
        (true, Some(code)) => format!("exit status {code}"),
        (true, None) => "ended by a signal".to_owned(),
    };
    format!("{who}: {said}{}", remedy(stderr))
}
