//! The socket: sending batches, receiving answers and dumps.

use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, getsockname, getsockopt, recv,
    send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::message::{DONE, ERROR};
use super::{Batch, Message, NetlinkError, Refusal, flags};
use crate::kernel::Traffic;

/// The kernel's explanations of errors (`NETLINK_EXT_ACK`, uapi `linux/netlink.h`).
#[derive(Clone, Copy, Debug)]
struct ExtendedAcknowledgement;

nix::setsockopt_impl!(
    ExtendedAcknowledgement,
    libc::SOL_NETLINK,
    libc::NETLINK_EXT_ACK,
    bool,
    nix::sys::socket::sockopt::SetBool
);

/// Holds the longest datagram: the kernel sends dumps in pieces of at most 32 KiB, and echoes a refused request, whose
/// attributes are at most 64 KiB in practice.
pub(super) const RECEIVE_BUFFER: usize = 72 << 10;

/// How many bytes of answers may wait in the kernel. A limit; nothing is set aside.
const WAITING_ANSWERS: usize = 1 << 20;

/// How long to wait for one answer unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A netlink family to talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// conntrack, ipset, nf_tables.
    Netfilter,
    /// IPVS and others.
    Generic,
    /// Links, addresses, routes.
    Route,
}

/// A netlink socket, connected to the kernel: it takes no messages from other processes.
///
/// It belongs to the network namespace that the thread which opened it was in at that time. When a dump was left before
/// its end, the next request opens a new socket in its place, so use it in that namespace.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    protocol: Protocol,
    timeout: Duration,
    sequence: u32,
    buffer: Vec<u8>,
    /// A dump was left before its end: the kernel still has the rest of it for us, and would refuse another.
    abandoned: bool,
    traffic: Traffic,
}

/// An answer to one request of a batch.
#[derive(Debug)]
pub enum Answer<'a> {
    /// It was refused.
    Refused(Refusal),
    /// A message of the family.
    Message(Message<'a>),
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open(protocol: Protocol) -> Result<Self, NetlinkError> {
        Ok(Socket {
            fd: open(protocol, TIMEOUT, WAITING_ANSWERS)?,
            protocol,
            timeout: TIMEOUT,
            sequence: 0,
            buffer: vec![0; RECEIVE_BUFFER],
            abandoned: false,
            traffic: Traffic::default(),
        })
    }

    /// Counts what is sent from now on there.
    pub fn count(&mut self, traffic: Traffic) {
        self.traffic = traffic;
    }

    /// How long to wait for an answer; 5 s at first. Must not be zero.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<(), NetlinkError> {
        set_timeout(&self.fd, timeout)?;
        self.timeout = timeout;
        Ok(())
    }

    /// Sends a batch and receives the answers, until every request that carries [`flags::ACK`] is answered. Where none
    /// does, the last one is given it. `answer` gets the index of the request with each answer that is not a plain
    /// success.
    ///
    /// Errors: those of the conversation. A refusal is not one; it is an answer. An empty batch is not sent.
    pub fn transact(
        &mut self,
        batch: &mut Batch,
        mut answer: impl FnMut(usize, Answer<'_>),
    ) -> Result<(), NetlinkError> {
        let asked = batch.asked();
        let acknowledged = |batch: &Batch, index| batch.flags(index) & flags::ACK != 0;
        let mut waiting = (0..batch.len()).filter(|index| acknowledged(batch, *index)).count();
        if let (0, Some(last)) = (waiting, batch.len().checked_sub(1)) {
            batch.add_flags(last, flags::ACK);
            waiting = 1;
        }
        let first = self.send(batch)?;
        while waiting > 0 {
            let length = self.receive(asked)?;
            let datagram = self.buffer.get(..length).unwrap_or_default();
            each_answer(datagram, asked, first, batch.len(), &mut |index, said| {
                if !matches!(said, Some(Answer::Message(_))) {
                    waiting -= usize::from(acknowledged(batch, index) && waiting > 0);
                }
                if let Some(said) = said {
                    answer(index, said);
                }
            })?;
        }
        Ok(())
    }

    /// Sends one question; gives the first answer that `read` understands, or the kernel's refusal.
    pub fn ask<T>(
        &mut self,
        batch: &mut Batch,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Result<Option<T>, Refusal>, NetlinkError> {
        let mut said = Ok(None);
        self.transact(batch, |_, answer| match (answer, &said) {
            (Answer::Message(message), Ok(None)) => said = Ok(read(&message)),
            (Answer::Message(_), _) => {}
            (Answer::Refused(refusal), _) => said = Err(refusal),
        })?;
        Ok(said)
    }

    /// Sends a batch of which only failures are answered, as nf_tables does with a transaction, and receives what the
    /// kernel said. It has said everything when the send returns.
    ///
    /// Errors: those of the conversation. [`NetlinkError::Overrun`]: some answers are lost, so something was refused.
    pub fn submit(&mut self, batch: &mut Batch, mut answer: impl FnMut(usize, Answer<'_>)) -> Result<(), NetlinkError> {
        let asked = batch.asked();
        let first = self.send(batch)?;
        let mut complete = Ok(());
        loop {
            let length = match self.receive_with(asked, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(NetlinkError::Timeout { .. }) => return complete,
                // What was not lost is still there to be read.
                Err(error @ NetlinkError::Overrun { .. }) if complete.is_ok() => {
                    complete = Err(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let datagram = self.buffer.get(..length).unwrap_or_default();
            each_answer(datagram, asked, first, batch.len(), &mut |index, said| {
                if let Some(said) = said {
                    answer(index, said);
                }
            })?;
        }
    }

    /// Lets batches be up to `wanted` bytes long, if the process may; gives how long they can be.
    pub fn set_capacity(&mut self, wanted: usize) -> Result<usize, NetlinkError> {
        let failed = |call| move |errno| NetlinkError::Call { asked: "talk to the kernel", call, errno };
        // What is beyond the host's limit takes a capability in the initial user namespace.
        if setsockopt(&self.fd, sockopt::SndBufForce, &wanted).is_err() {
            setsockopt(&self.fd, sockopt::SndBuf, &wanted).map_err(failed("setsockopt SO_SNDBUF"))?;
        }
        let real = getsockopt(&self.fd, sockopt::SndBuf).map_err(failed("getsockopt SO_SNDBUF"))?;
        // The kernel keeps 32 bytes of it for itself (`netlink_sendmsg`).
        Ok(real.saturating_sub(32))
    }

    /// The number by which the kernel knows this socket (`nl_pid`).
    pub fn port(&self) -> Result<u32, NetlinkError> {
        let address: NetlinkAddr = getsockname(self.fd.as_raw_fd()).map_err(|errno| NetlinkError::Call {
            asked: "talk to the kernel",
            call: "getsockname",
            errno,
        })?;
        Ok(address.pid())
    }

    /// Asks for a list. The batch holds one request; [`flags::DUMP`] is added to it.
    pub fn dump(&mut self, batch: &mut Batch) -> Result<Dump<'_>, NetlinkError> {
        batch.add_flags(0, flags::DUMP);
        let sequence = self.send(batch)?;
        let asked = batch.asked();
        let done = batch.is_empty();
        Ok(Dump { socket: self, asked, sequence, unread: 0..0, done, interrupted: false })
    }

    /// Numbers the requests and sends them. Gives the number of the first.
    fn send(&mut self, batch: &mut Batch) -> Result<u32, NetlinkError> {
        let asked = batch.asked();
        if batch.too_long() {
            return Err(NetlinkError::TooLong { asked });
        }
        if self.abandoned {
            self.fd = open(self.protocol, self.timeout, WAITING_ANSWERS)?;
            self.abandoned = false;
        }
        let first = self.sequence;
        self.sequence = first.wrapping_add(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        if batch.is_empty() {
            return Ok(first);
        }
        batch.number(first);
        loop {
            match send(self.fd.as_raw_fd(), batch.bytes(), MsgFlags::empty()) {
                // A datagram is sent whole or not at all.
                Ok(bytes) => {
                    self.traffic.add(bytes, batch.len());
                    return Ok(first);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(NetlinkError::Call { asked, call: "send", errno }),
            }
        }
    }

    /// Receives one datagram into the buffer and gives its length.
    fn receive(&mut self, asked: &'static str) -> Result<usize, NetlinkError> {
        self.receive_with(asked, MsgFlags::empty())
    }

    fn receive_with(&mut self, asked: &'static str, flags: MsgFlags) -> Result<usize, NetlinkError> {
        loop {
            // With MSG_TRUNC the length is the datagram's own, also where that is more than the buffer.
            return match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC | flags) {
                Ok(0) => Err(NetlinkError::Malformed { asked, what: "it is empty" }),
                Ok(length) if length > self.buffer.len() => {
                    Err(NetlinkError::Malformed { asked, what: "it is longer than 72 KiB" })
                }
                Ok(length) => Ok(length),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Err(NetlinkError::Timeout { asked, after: self.timeout }),
                Err(Errno::ENOBUFS) => Err(NetlinkError::Overrun { asked }),
                Err(errno) => Err(NetlinkError::Call { asked, call: "recv", errno }),
            };
        }
    }
}

/// A list while it is read: one buffer, whatever its length. Dropping it early is fine.
#[derive(Debug)]
pub struct Dump<'a> {
    socket: &'a mut Socket,
    asked: &'static str,
    sequence: u32,
    /// The part of the socket's buffer that was received and not yet read.
    unread: Range<usize>,
    done: bool,
    interrupted: bool,
}

impl Dump<'_> {
    /// The next entry; `None` at the end.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, NetlinkError> {
        while !self.done {
            if self.unread.is_empty() {
                self.unread = 0..self.socket.receive(self.asked)?;
            }
            let entry = self.unread.clone();
            let bytes = self.socket.buffer.get(entry.clone()).unwrap_or_default();
            let (message, length) = Message::read(bytes).ok_or_else(cut_off(self.asked))?;
            self.unread.start = entry.start.saturating_add(length).min(entry.end);
            if message.sequence != self.sequence {
                continue; // a late answer to an earlier request
            }
            self.interrupted |= message.flags & flags::DUMP_INTR != 0;
            let verdict = match message.kind {
                DONE => message.end_of_dump(),
                // The request for a list was refused. A success is no end: entries follow.
                ERROR => match message.acknowledgement().ok_or_else(cut_off(self.asked))? {
                    Ok(()) => continue,
                    refused => refused,
                },
                // Read once more, as a borrow that outlives the loop.
                _ => return Ok(self.socket.buffer.get(entry).and_then(Message::read).map(|(message, _)| message)),
            };
            self.done = true;
            verdict.map_err(|refusal| NetlinkError::Refused { asked: self.asked, refusal })?;
        }
        Ok(None)
    }

    /// The list changed while it was read: it may lack entries or name some twice. Final at the end.
    pub fn interrupted(&self) -> bool {
        self.interrupted
    }
}

impl Drop for Dump<'_> {
    fn drop(&mut self) {
        self.socket.abandoned |= !self.done;
    }
}

/// A socket in which `waiting` bytes may wait to be received.
pub(super) fn open(protocol: Protocol, timeout: Duration, waiting: usize) -> Result<OwnedFd, NetlinkError> {
    let failed = |call| move |errno| NetlinkError::Call { asked: "talk to the kernel", call, errno };
    let number = match protocol {
        Protocol::Netfilter => SockProtocol::NetlinkNetFilter,
        Protocol::Generic => SockProtocol::NetlinkGeneric,
        Protocol::Route => SockProtocol::NetlinkRoute,
    };
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, number).map_err(failed("socket"))?;
    // Being connected to port 0, the kernel, keeps other processes' messages out.
    connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed("connect"))?;
    setsockopt(&fd, ExtendedAcknowledgement, &true).map_err(failed("setsockopt NETLINK_EXT_ACK"))?;
    // More than the host's limit takes the capability that everything here takes, so its absence shows soon enough.
    if setsockopt(&fd, sockopt::RcvBufForce, &waiting).is_err() {
        setsockopt(&fd, sockopt::RcvBuf, &waiting).map_err(failed("setsockopt SO_RCVBUF"))?;
    }
    set_timeout(&fd, timeout)?;
    Ok(fd)
}

fn set_timeout(fd: &OwnedFd, timeout: Duration) -> Result<(), NetlinkError> {
    let value = TimeVal::microseconds(i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX));
    setsockopt(fd, sockopt::ReceiveTimeout, &value).map_err(|errno| NetlinkError::Call {
        asked: "talk to the kernel",
        call: "setsockopt SO_RCVTIMEO",
        errno,
    })
}

/// Visits the answers of a datagram to a batch of `count` requests, the first of which has this number: the index of the
/// request, and what is said to it; `None` is a plain success.
fn each_answer(
    mut datagram: &[u8],
    asked: &'static str,
    first: u32,
    count: usize,
    visit: &mut dyn FnMut(usize, Option<Answer<'_>>),
) -> Result<(), NetlinkError> {
    while !datagram.is_empty() {
        let (message, end) = Message::read(datagram).ok_or_else(cut_off(asked))?;
        datagram = datagram.get(end..).unwrap_or_default();
        let index = message.sequence.wrapping_sub(first) as usize;
        if index >= count {
            continue; // a late answer to an earlier request
        }
        if message.kind != ERROR {
            visit(index, Some(Answer::Message(message)));
            continue;
        }
        let acknowledgement = message.acknowledgement().ok_or_else(cut_off(asked))?;
        visit(index, acknowledgement.err().map(Answer::Refused));
    }
    Ok(())
}

fn cut_off(asked: &'static str) -> impl FnOnce() -> NetlinkError {
    move || NetlinkError::Malformed { asked, what: "a message is cut off" }
}
