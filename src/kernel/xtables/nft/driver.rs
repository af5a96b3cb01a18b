//! The kernel's nf_tables behind [`Xtables`].

use std::collections::BTreeSet;
use std::time::Duration;

use super::read;
use super::transaction::of_conversation;
use super::write::{Limits, Writer};
use crate::kernel::netlink::{NetlinkError, Protocol, Socket};
use crate::kernel::watch::OwnWrites;
use crate::kernel::xtables::order::{Cut, cut};
use crate::kernel::xtables::{
    ApplyError, ApplyErrorKind, ChainName, Changes, ObserveError, ObservedChain, Table, Xtables,
};
use crate::net::Family;

/// How long a batch of messages may be, if the process may have so much.
const CAPACITY: usize = 64 << 20;

/// How long the kernel may take for an answer. While somebody else makes a large change, it makes us wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a change is made anew because somebody else changed something meanwhile.
const ATTEMPTS: u32 = 32;

/// What was written since the driver was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Transactions that came into force.
    pub transactions: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of these messages.
    pub bytes: u64,
    /// How long the kernel took for them.
    pub kernel: Duration,
}

/// Reads and writes the tables of the network namespace in which it is first used.
#[derive(Debug)]
pub struct NftDriver {
    families: Vec<Family>,
    open: Option<Open>,
    written: Written,
    own: OwnWrites,
}

#[derive(Debug)]
struct Open {
    socket: Socket,
    limits: Limits,
}

impl NftDriver {
    /// A driver for these families. It asks the kernel for nothing yet.
    pub fn new(families: Vec<Family>) -> Self {
        NftDriver { families, open: None, written: Written::default(), own: OwnWrites::new() }
    }

    /// The families that it serves.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Tells its writes there from now on.
    pub fn tell(&mut self, own: OwnWrites) {
        self.own = own;
        self.open = None;
    }

    /// What was written so far.
    pub fn written(&self) -> Written {
        self.written
    }

    /// The conversation, begun if need be.
    fn open(&mut self) -> Result<&mut Open, NetlinkError> {
        if self.open.is_none() {
            let mut socket = Socket::open(Protocol::Netfilter)?;
            socket.set_timeout(PATIENCE)?;
            let limits = Limits::new(socket.set_capacity(CAPACITY)?);
            self.open = Some(Open { socket, limits });
        }
        match &mut self.open {
            Some(open) => Ok(open),
            None => Err(NetlinkError::Malformed { asked: "talk to the kernel", what: "there is no socket" }),
        }
    }

    fn apply_family(&mut self, changes: &Changes, family: Family) -> Result<(), ApplyError> {
        let mut atomic = Limits::fits(changes, family);
        let mut written = Written::default();
        let result = self.attempt(changes, family, &mut atomic, &mut written);
        self.written.transactions += written.transactions;
        self.written.messages += written.messages;
        self.written.bytes += written.bytes;
        self.written.kernel += written.kernel;
        tracing::debug!(%family, atomic, ?written, ok = result.is_ok(), "nf_tables");
        result
    }

    fn attempt(
        &mut self,
        changes: &Changes,
        family: Family,
        atomic: &mut bool,
        written: &mut Written,
    ) -> Result<(), ApplyError> {
        let own = self.own.clone();
        let Open { socket, limits } = self.open().map_err(|error| of_conversation(&error))?;
        for _ in 0..ATTEMPTS {
            let how = if *atomic { Cut::Atomic } else { Cut::Apart };
            let scripts = cut(changes, how)?;
            let Some(script) = scripts.iter().find(|script| script.family == family) else { return Ok(()) };
            match Writer::new(socket, family, *limits, *atomic, &own, written).write(script) {
                Ok(()) => return Ok(()),
                Err(Stop::Outdated) => {}
                Err(Stop::TooLarge) => *atomic = false,
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        Err(ApplyError {
            kind: ApplyErrorKind::Busy,
            message: "other programs change nf_tables so often that no change of ours comes through; it will be tried \
                      again"
                .to_owned(),
            chain: None,
        })
    }
}

/// Why writing stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// Somebody else changed the ruleset.
    Outdated,
    /// It does not fit into one transaction.
    TooLarge,
    Failed(ApplyError),
}

impl From<NetlinkError> for Stop {
    fn from(error: NetlinkError) -> Self {
        Stop::Failed(of_conversation(&error))
    }
}

/// A driver of the same kind, which opens a conversation of its own.
impl Clone for NftDriver {
    fn clone(&self) -> Self {
        NftDriver::new(self.families.clone())
    }
}

impl Xtables for NftDriver {
    fn observe(
        &mut self,
        family: Family,
        table: Table,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        let socket = &mut self.open().map_err(failed)?.socket;
        let mut found: Vec<(ChainName, bool)> = Vec::new();
        read::chains(socket, family, &mut |chain| {
            // A longer name cannot be iptables', nor ours.
            if chain.table == table.as_str() && chain.name.len() <= ChainName::MAX {
                found.push((ChainName::new(chain.name), chain.builtin));
            }
        })
        .map_err(failed)?;
        for (name, builtin) in found {
            let rules = read::rules(socket, family, table, name.as_str()).map_err(failed)?;
            visit(ObservedChain { name, builtin, rules: rules.into_iter().map(|(_, rule)| rule).collect() });
        }
        Ok(())
    }

    fn observe_chains(
        &mut self,
        family: Family,
        table: Table,
        names: &BTreeSet<ChainName>,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        let socket = &mut self.open().map_err(failed)?.socket;
        for name in names {
            let Some(builtin) = read::chain(socket, family, table, name.as_str()).map_err(failed)? else { continue };
            let rules = read::rules(socket, family, table, name.as_str()).map_err(failed)?;
            let rules = rules.into_iter().map(|(_, rule)| rule).collect();
            visit(ObservedChain { name: name.clone(), builtin, rules });
        }
        Ok(())
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        // One family's trouble is not the other's: both are tried, and the first error is told.
        let mut outcome = Ok(());
        for family in Family::ALL {
            match (&outcome, self.apply_family(changes, family)) {
                (Ok(()), applied) => outcome = applied,
                (Err(_), Err(error)) => tracing::warn!(%family, %error, "applying failed as well"),
                (Err(_), Ok(())) => {}
            }
        }
        outcome
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: NetlinkError) -> ObserveError {
    ObserveError { message: error.to_string() }
}
