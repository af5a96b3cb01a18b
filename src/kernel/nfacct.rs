//! Accounting objects of netfilter (`nfacct`): named counters that rules can feed (uapi
//! `linux/netfilter/nfnetlink_acct.h`).
//!
//! kube-proxy makes two of them and names them in its rules (contract 3.2). A kernel without them, or without the match,
//! gets the same rules without the counters.

use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::netlink::nfnetlink::{Subsystem, header, message_type, split_header};
use super::netlink::{Answer, Attributes, Batch, Message, NetlinkError, Protocol, Socket, flags};
use super::xtables::nft::probe::has_match;
use crate::net::Family;

/// `NFNL_MSG_ACCT_NEW`
const NEW: u8 = 0;
/// `NFNL_MSG_ACCT_GET`
const GET: u8 = 1;
/// `NFNL_MSG_ACCT_DEL`
const DELETE: u8 = 3;
/// `NFACCT_PKTS`
const PACKETS: u16 = 2;
/// `NFACCT_NAME`
const NAME: u16 = 1;
/// The longest name, in bytes (`NFACCT_NAME_MAX` less the NUL).
const NAME_MAX: usize = 31;

/// How long an object may be named by rules that are gone: nf_tables lets go of it some time after them.
const HELD: Duration = Duration::from_secs(2);
/// How long to wait before the next attempt.
const PAUSE: Duration = Duration::from_millis(10);

/// Why an object cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NfacctError {
    #[error("{0:?} is no name of an accounting object: it has 1 to 31 bytes")]
    Name(String),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("the kernel refused: {0}")]
    Refused(Errno),
    #[error("the accounting object {0} cannot be deleted, because a rule names it; remedy: delete the rule")]
    InUse(String),
}

/// A kernel that holds accounting objects, as far as they can go. Calls block.
pub trait Counters: Send {
    /// Whether there is an object of this name.
    ///
    /// # Errors
    /// The kernel could not be asked.
    fn has(&mut self, name: &str) -> Result<bool, NfacctError>;

    /// Deletes it. One that is gone already is no error.
    ///
    /// # Errors
    /// Rules name it, or the kernel refuses for another reason.
    fn delete(&mut self, name: &str) -> Result<(), NfacctError>;
}

/// Accounting in the network namespace of the calling thread.
pub struct Nfacct {
    socket: Socket,
}

impl Nfacct {
    /// Opens it.
    ///
    /// # Errors
    /// No netlink socket of this kind is to be had.
    pub fn open() -> Result<Self, NfacctError> {
        Ok(Nfacct { socket: Socket::open(Protocol::Netfilter)? })
    }

    /// Makes the object if there is none of that name (scenario S60, S64).
    ///
    /// # Errors
    /// A name that no object can have, no permission (EPERM), a kernel without accounting (EINVAL).
    pub fn ensure(&mut self, name: &str) -> Result<(), NfacctError> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(NfacctError::Name(name.to_owned()));
        }
        let mut batch = Batch::new("make an accounting object");
        batch.message(message_type(Subsystem::Accounting, NEW), flags::CREATE | flags::EXCL | flags::ACK, |body| {
            body.raw(&header(None, 0)).put_text(NAME, name);
        });
        match self.ask(&mut batch)? {
            None | Some(Errno::EEXIST) => Ok(()),
            Some(errno) => Err(NfacctError::Refused(errno)),
        }
    }

    /// How many packets an object counted; `None` if there is no object of that name.
    ///
    /// # Errors
    /// The kernel could not be asked, or says nothing that is understood.
    pub fn packets(&mut self, name: &str) -> Result<Option<u64>, NfacctError> {
        const ASKED: &str = "read an accounting object";
        let mut batch = Batch::new(ASKED);
        batch.message(message_type(Subsystem::Accounting, GET), flags::ACK, |body| {
            body.raw(&header(None, 0)).put_text(NAME, name);
        });
        let read = |message: &Message<'_>| {
            let (_, attributes) = split_header(message.payload)?;
            Attributes::new(attributes).find(PACKETS)?.u64_be()
        };
        match self.socket.ask(&mut batch, read)? {
            Ok(Some(packets)) => Ok(Some(packets)),
            Ok(None) => Err(NetlinkError::Malformed { asked: ASKED, what: "it names no number of packets" }.into()),
            Err(refusal) if refusal.errno() == Errno::ENOENT => Ok(None),
            Err(refusal) => Err(NfacctError::Refused(refusal.errno())),
        }
    }

    /// Whether the kernel has such objects at all. Makes none.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn is_there(&mut self) -> Result<bool, NfacctError> {
        Ok(matches!(self.request(GET, "weir-none")?, None | Some(Errno::ENOENT)))
    }

    /// Sends a request that names one object; gives what the kernel refused it with, if it did.
    fn request(&mut self, command: u8, name: &str) -> Result<Option<Errno>, NfacctError> {
        let mut batch = Batch::new("ask for an accounting object");
        batch.message(message_type(Subsystem::Accounting, command), flags::ACK, |body| {
            body.raw(&header(None, 0)).put_text(NAME, name);
        });
        self.ask(&mut batch)
    }

    /// Whether the kernel has the match that names such objects.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn match_is_there(&mut self, family: Family) -> Result<bool, NfacctError> {
        Ok(has_match(&mut self.socket, family, "nfacct", 0)?)
    }

    /// Sends one request; gives what the kernel refused it with, if it did.
    fn ask(&mut self, batch: &mut Batch) -> Result<Option<Errno>, NfacctError> {
        let mut refused = None;
        self.socket.transact(batch, |_, answer| {
            if let Answer::Refused(refusal) = answer {
                refused = Some(refusal.errno());
            }
        })?;
        Ok(refused)
    }
}

impl Counters for Nfacct {
    fn has(&mut self, name: &str) -> Result<bool, NfacctError> {
        match self.request(GET, name)? {
            None => Ok(true),
            // EINVAL: a kernel without accounting.
            Some(Errno::ENOENT | Errno::EINVAL) => Ok(false),
            Some(errno) => Err(NfacctError::Refused(errno)),
        }
    }

    fn delete(&mut self, name: &str) -> Result<(), NfacctError> {
        let begin = Instant::now();
        loop {
            match self.request(DELETE, name)? {
                None | Some(Errno::ENOENT) => return Ok(()),
                Some(Errno::EBUSY) if begin.elapsed() < HELD => thread::sleep(PAUSE),
                Some(Errno::EBUSY) => return Err(NfacctError::InUse(name.to_owned())),
                Some(errno) => return Err(NfacctError::Refused(errno)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// Runs in a network namespace of its own, as root; says so where it cannot.
    fn in_namespace(test: fn()) {
        let ran = std::thread::spawn(move || match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => test(),
            Err(errno) => crate::lab::skipped(&format!("nfacct: no network namespace: {errno} (run as root)")),
        });
        ran.join().unwrap();
    }

    #[test]
    fn s60_s64_an_object_is_made_once() {
        in_namespace(|| {
            let mut nfacct = Nfacct::open().unwrap();
            nfacct.ensure("weir_test").unwrap();
            nfacct.ensure("weir_test").unwrap();
            nfacct.ensure(&"x".repeat(31)).unwrap();
            assert!(matches!(nfacct.ensure(&"x".repeat(32)), Err(NfacctError::Name(_))));
            assert!(nfacct.is_there().unwrap());
            assert!(matches!(nfacct.ensure(""), Err(NfacctError::Name(_))));
        });
    }

    #[test]
    fn an_object_that_is_deleted_is_gone() {
        in_namespace(|| {
            let mut nfacct = Nfacct::open().unwrap();
            assert!(!nfacct.has("weir_test").unwrap());
            nfacct.ensure("weir_test").unwrap();
            nfacct.ensure("weir_other").unwrap();
            assert!(nfacct.has("weir_test").unwrap());
            nfacct.delete("weir_test").unwrap();
            nfacct.delete("weir_test").expect("it is gone already");
            assert!(!nfacct.has("weir_test").unwrap() && nfacct.has("weir_other").unwrap());
        });
    }

    #[test]
    fn what_was_counted_is_read() {
        in_namespace(|| {
            let mut nfacct = Nfacct::open().unwrap();
            assert_eq!(nfacct.packets("weir_test").unwrap(), None);
            nfacct.ensure("weir_test").unwrap();
            assert_eq!(nfacct.packets("weir_test").unwrap(), Some(0));
        });
    }

    #[test]
    fn the_match_is_asked_for_by_family() {
        in_namespace(|| {
            let mut nfacct = Nfacct::open().unwrap();
            assert_eq!(nfacct.match_is_there(Family::V4).unwrap(), nfacct.match_is_there(Family::V6).unwrap());
        });
    }
}
