//! The kernel's nf_tables behind [`Xtables`].

use std::collections::BTreeSet;
use std::time::Duration;

use super::read;
use super::sets::SetIndexes;
use super::transaction::of_conversation;
use super::write::{Limits, Writer};
use crate::kernel::Traffic;
use crate::kernel::netlink::{NetlinkError, Protocol, Socket};
use crate::kernel::watch::OwnWrites;
use crate::kernel::xtables::changes::try_all;
use crate::kernel::xtables::order::{Cut, Script, cut};
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
    traffic: Traffic,
}

#[derive(Debug)]
struct Open {
    socket: Socket,
    limits: Limits,
}

impl NftDriver {
    /// A driver for these families. It asks the kernel for nothing yet.
    pub fn new(families: Vec<Family>) -> Self {
        NftDriver {
            families,
            open: None,
            written: Written::default(),
            own: OwnWrites::new(),
            traffic: Traffic::default(),
        }
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

    /// Counts what is sent from now on there.
    pub fn count(&mut self, traffic: Traffic) {
        self.traffic = traffic;
        self.open = None;
    }

    /// What was written so far.
    pub fn written(&self) -> Written {
        self.written
    }

    /// Writes a script that was cut from these changes.
    fn write<'c>(&mut self, changes: &'c Changes, mut script: Script<'c>, mut atomic: bool) -> Result<(), ApplyError> {
        let NftDriver { open, written, own, traffic, .. } = self;
        let before = *written;
        let Open { socket, limits } = opened(open, traffic).map_err(|error| of_conversation(&error))?;
        let mut result = Err(ApplyError {
            kind: ApplyErrorKind::Busy,
            message: "other programs change nf_tables so often that no change of ours comes through; it will be tried \
                      again"
                .to_owned(),
            chain: None,
        });
        for _ in 0..ATTEMPTS {
            match Writer::new(socket, script.family, *limits, atomic, own, written).write(&script) {
                Ok(()) => result = Ok(()),
                Err(Stop::Outdated) => continue,
                Err(Stop::TooLarge) => {
                    atomic = false;
                    script = cut(changes, script.family, Cut::Apart)?;
                    continue;
                }
                Err(Stop::Failed(error)) => result = Err(error),
            }
            break;
        }
        tracing::debug!(
            family = %script.family,
            atomic,
            transactions = written.transactions - before.transactions,
            messages = written.messages - before.messages,
            bytes = written.bytes - before.bytes,
            kernel = ?(written.kernel - before.kernel),
            ok = result.is_ok(),
            "nf_tables"
        );
        result
    }
}

/// The conversation, begun if need be.
fn opened<'o>(open: &'o mut Option<Open>, traffic: &Traffic) -> Result<&'o mut Open, NetlinkError> {
    match open {
        Some(open) => Ok(open),
        None => {
            let mut socket = Socket::open(Protocol::Netfilter)?;
            socket.count(traffic.clone());
            socket.set_timeout(PATIENCE)?;
            let limits = Limits::new(socket.set_capacity(CAPACITY)?);
            Ok(open.insert(Open { socket, limits }))
        }
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
        NftDriver { traffic: self.traffic.clone(), ..NftDriver::new(self.families.clone()) }
    }
}

impl Xtables for NftDriver {
    fn observe(
        &mut self,
        family: Family,
        table: Table,
        visit: &mut dyn FnMut(ObservedChain),
    ) -> Result<(), ObserveError> {
        let socket = &mut opened(&mut self.open, &self.traffic).map_err(failed)?.socket;
        let mut found: Vec<(ChainName, bool)> = Vec::new();
        read::chains(socket, family, &mut |chain| {
            // A longer name cannot be iptables', nor ours.
            if chain.table == table.as_str() && chain.name.len() <= ChainName::MAX {
                found.push((ChainName::new(chain.name), chain.builtin));
            }
        })
        .map_err(failed)?;
        let mut sets = SetIndexes::default();
        for (name, builtin) in found {
            let rules = read::rules(socket, family, table, name.as_str(), &mut sets).map_err(failed)?;
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
        let socket = &mut opened(&mut self.open, &self.traffic).map_err(failed)?.socket;
        let mut sets = SetIndexes::default();
        for name in names {
            let Some(builtin) = read::chain(socket, family, table, name.as_str()).map_err(failed)? else { continue };
            let rules = read::rules(socket, family, table, name.as_str(), &mut sets).map_err(failed)?;
            let rules = rules.into_iter().map(|(_, rule)| rule).collect();
            visit(ObservedChain { name: name.clone(), builtin, rules });
        }
        Ok(())
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        let script = |family| {
            let atomic = Limits::fits(changes, family);
            let how = if atomic { Cut::Atomic } else { Cut::Apart };
            cut(changes, family, how).map(|script| (script, atomic))
        };
        // Both, before anything is written.
        let scripts: Vec<_> = Family::ALL.into_iter().map(script).collect::<Result<_, _>>()?;
        let scripts = scripts.into_iter().filter(|(script, _)| !script.sections.is_empty());
        try_all(scripts.map(|(script, atomic)| (script.family, self.write(changes, script, atomic))))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: NetlinkError) -> ObserveError {
    ObserveError { message: error.to_string() }
}
