//! nf_tables: the kernel tells the members of a group (`NFNLGRP_NFTABLES`) what each commit changed, and at its end who
//! made it. A process is told by its number in the initial process namespace and by the name of its thread, whatever
//! namespaces it and we are in.
//!
//! # Why a listener, and not a look at the generation id now and then
//! A listener tells which chains to compare, and who did it; the generation id tells neither. For as long as somebody
//! listens each commit of anybody takes longer. Measured on a 2-core machine with Linux 6.18, the shortest of some runs
//! (`cargo test --test watch -- --ignored cost`), for the send of one commit of rules of 600 bytes to an empty table
//! without and with a listener: 1 rule 75 and 89 µs, 10 rules 0.19 and 0.23 ms, 1,000 rules 7.6 and 10.3 ms, 100,000
//! rules 0.97 and 1.5 s; deleting them with their table 19 and 21 µs, 15 and 42 µs, 0.2 and 2.4 ms, 71 and 320 ms. What is left of the price is that of
//! others' large commits; for ours, the listener leaves the group ([`Write::Large`](super::Write)).
//!
//! # What is not announced
//! Commits made while the listener was out of the group are found by the generation id: [`Ledger`]. If the kernel had no
//! room for a notification it says so (`ENOBUFS`), and anything may have changed. A chain that was given another name
//! (`iptables -E`) is announced by its new name alone: the periodic compare finds that.

mod event;
mod ledger;
mod scope;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use self::event::{Event, Generation};
use self::ledger::Ledger;
use self::scope::Touched;
use super::own::{Eyes, OwnWrites};
use super::signal::Signal;
use crate::kernel::netlink::{Listener, Membership, Message, NetlinkError, Protocol, Socket};
use crate::kernel::xtables::nft::generation;
use crate::kernel::xtables::{Culprit, Suspicion};
use crate::net::{Family, PerFamily};

/// `NFNLGRP_NFTABLES` of uapi `linux/netfilter/nfnetlink.h`.
const GROUP: u32 = 7;

/// How long the kernel may take to tell the generation, for which it waits for nobody.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many datagrams are taken in a row, before others have their turn.
const TURN: usize = 256;

/// Follows what others do to nf_tables, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct NftWatch {
    listener: Listener,
    socket: Socket,
    own: OwnWrites,
    state: Following,
    /// We wrote unseen, and it is not yet known who else did.
    recheck: bool,
}

impl NftWatch {
    /// Begins with what is in force now.
    pub(super) fn open(own: OwnWrites, families: &[Family], signal: Arc<Signal>) -> Result<Self, NetlinkError> {
        let listener = Listener::open(Protocol::Netfilter)?;
        let membership = listener.membership()?;
        membership.join(GROUP)?;
        let mut socket = Socket::open(Protocol::Netfilter)?;
        socket.set_timeout(PATIENCE)?;
        own.attach(Box::new(Group { membership, signal }));
        let state = Following {
            own: own.clone(),
            ledger: Ledger::new(generation(&mut socket)?),
            touched: Touched::new(PerFamily::new(|family| families.contains(&family))),
            found: None,
            recheck: false,
        };
        Ok(NftWatch { listener, socket, own, state, recheck: false })
    }

    /// Takes what was told, and looks for what was not if we wrote unseen. Gives what matters.
    ///
    /// # Errors
    /// The kernel cannot be heard any more; what was found before is lost.
    pub(super) fn look(&mut self) -> Result<Option<Suspicion>, NetlinkError> {
        self.recheck |= std::mem::take(&mut self.state.recheck) | self.state.take_unseen();
        if !self.recheck {
            self.drain()?;
            return Ok(self.state.found.take());
        }
        // In this order: what is announced up to this generation was taken before it is counted as missing.
        let generation = self.generation();
        let all = self.drain()?;
        if let Some(generation) = generation
            && all
            && !self.own.is_unseen()
            && !self.state.recheck
        {
            self.recheck = false;
            if self.state.ledger.stands(generation) {
                self.state.suspect(Suspicion::anything());
            }
        }
        Ok(self.state.found.take())
    }

    /// More than [`NftWatch::look`]: whether something got lost that the kernel did not say was lost. For now and then.
    pub(super) fn glance(&mut self) -> Result<Option<Suspicion>, NetlinkError> {
        if self.recheck || self.own.is_unseen() {
            return self.look();
        }
        let generation = self.generation();
        if self.drain()?
            && !self.own.is_unseen()
            && let Some(generation) = generation
            && self.state.ledger.glance(generation)
        {
            self.state.suspect(Suspicion::anything());
        }
        Ok(self.state.found.take())
    }

    /// Takes what waits; false if that is more than can be taken in a row.
    fn drain(&mut self) -> Result<bool, NetlinkError> {
        for _ in 0..TURN {
            let state = &mut self.state;
            let mut known = None;
            match self.listener.receive(|message| state.take(&message, &mut known)) {
                Ok(true) => {}
                Ok(false) => return Ok(true),
                Err(NetlinkError::Overrun { .. } | NetlinkError::Malformed { .. }) => {
                    state.touched.take();
                    state.suspect(Suspicion::anything());
                    if let Some(generation) = self.generation() {
                        self.state.ledger.stands(generation);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// The generation in force. The kernel answers at once unless it is out of memory; it is asked again later.
    fn generation(&mut self) -> Option<u32> {
        let answer = generation(&mut self.socket);
        answer.inspect_err(|error| tracing::debug!(%error, "whether others wrote is found out later")).ok()
    }
}

impl AsFd for NftWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// What was understood so far.
#[derive(Debug)]
struct Following {
    own: OwnWrites,
    ledger: Ledger,
    touched: Touched,
    found: Option<Suspicion>,
    /// Unseen writes were taken into the ledger on the way.
    recheck: bool,
}

impl Following {
    /// Takes a message; `known` is the port met last, and whether it is ours.
    fn take(&mut self, message: &Message<'_>, known: &mut Option<(u32, bool)>) {
        let ours = match *known {
            Some((port, ours)) if port == message.port => ours,
            _ => self.own.is_ours(message.port),
        };
        *known = Some((message.port, ours));
        match Event::read(message) {
            Some(Event::Generation(generation)) => self.end_commit(&generation),
            Some(event) if !ours => self.touched.add(&event),
            _ => {}
        }
    }

    fn end_commit(&mut self, generation: &Generation<'_>) {
        if self.ledger.is_gap(generation.id) {
            self.recheck |= self.take_unseen();
        }
        if self.ledger.announced(generation.id) {
            self.suspect(Suspicion::anything());
        }
        if let Some(scope) = self.touched.take() {
            let culprit = |pid| Culprit { pid, name: generation.process.unwrap_or_default().into() };
            self.suspect(Suspicion { scope, by: generation.pid.map(culprit).into_iter().collect() });
        }
    }

    fn take_unseen(&mut self) -> bool {
        let unseen = self.own.take_unseen();
        let some = unseen.is_some();
        unseen.into_iter().for_each(|unseen| self.ledger.unseen(unseen));
        some
    }

    fn suspect(&mut self, suspicion: Suspicion) {
        match &mut self.found {
            Some(found) => found.merge(suspicion),
            None => self.found = Some(suspicion),
        }
    }
}

/// The group is left while we write what cannot or need not be heard.
struct Group {
    membership: Membership,
    signal: Arc<Signal>,
}

impl Eyes for Group {
    fn close(&mut self) {
        // What is heard after all is recognised by its port, or is compared for nothing.
        if let Err(error) = self.membership.leave(GROUP) {
            tracing::debug!(%error, "our own writes are listened to");
        }
    }

    fn open(&mut self) {
        // Without it the generation id still tells that something changed, within seconds.
        if let Err(error) = self.membership.join(GROUP) {
            tracing::warn!(%error, "changes by others are found late from now on");
        }
        self.signal.wake();
    }
}
