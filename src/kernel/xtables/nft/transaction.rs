//! A transaction: messages that come into force together, or not at all.

use nix::errno::Errno;

use super::wire;
use crate::kernel::netlink::{Answer, Batch, NetlinkError, Refusal, Socket};
use crate::kernel::xtables::{ApplyError, ApplyErrorKind, ChainKey};

/// Messages between the two frames, each with the chain that it is about.
pub(super) struct Transaction {
    batch: Batch,
    /// Of each message of the batch; `None`: a frame, or a table.
    about: Vec<Option<ChainKey>>,
    /// Some message is about what was read before: a handle, or a chain that was there.
    pub(super) depends: bool,
    messages: usize,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is in force. The ruleset has the generation after the one that was given.
    Done,
    /// Somebody else changed the ruleset since that generation. Nothing is in force.
    Outdated,
    /// Nothing is in force.
    Failed(ApplyError),
}

impl Transaction {
    pub(super) fn new() -> Self {
        let mut transaction =
            Transaction { batch: Batch::new("change nf_tables"), about: Vec::new(), depends: false, messages: 0 };
        transaction.open();
        transaction
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) {
        self.batch.clear();
        self.about.clear();
        self.depends = false;
        self.messages = 0;
        self.open();
    }

    /// The frame is written with each attempt; here is its place.
    fn open(&mut self) {
        wire::begin(&mut self.batch, 0);
        self.about.push(None);
    }

    /// Number of messages without the frames.
    pub(super) fn len(&self) -> usize {
        self.messages
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Size in bytes, with what the closing frame will take.
    pub(super) fn size(&self) -> usize {
        const FRAME: usize = 20;
        self.batch.size() + FRAME
    }

    /// Adds messages about a chain or, with `None`, about a table.
    pub(super) fn add(&mut self, about: Option<&ChainKey>, write: impl FnOnce(&mut Batch)) {
        write(&mut self.batch);
        let new = self.batch.len() - self.about.len();
        self.messages += new;
        self.about.extend(std::iter::repeat_n(about.cloned(), new));
    }

    /// Sends it, valid only for this generation of the ruleset. It can be sent again.
    pub(super) fn commit(&mut self, socket: &mut Socket, generation: u32) -> Outcome {
        if self.batch.len() == self.about.len() {
            wire::end(&mut self.batch);
        }
        wire::rebegin(&mut self.batch, generation);
        let mut first: Option<(usize, Refusal)> = None;
        let mut outdated = false;
        let sent = socket.submit(&mut self.batch, |index, answer| {
            if let Answer::Refused(refusal) = answer {
                outdated |= refusal.errno() == Errno::ERESTART;
                first.get_or_insert((index, refusal));
            }
        });
        match (sent, first) {
            (Ok(()), None) => Outcome::Done,
            (Ok(()), Some(_)) if outdated => Outcome::Outdated,
            (_, Some((index, refusal))) => Outcome::Failed(self.refused(index, &refusal)),
            (Err(error), None) => Outcome::Failed(of_conversation(&error)),
        }
    }

    fn refused(&self, index: usize, refusal: &Refusal) -> ApplyError {
        let chain = self.about.get(index).cloned().flatten();
        let about = chain.as_ref().map_or_else(String::new, |chain| format!(" (chain {chain})"));
        let message = format!("the kernel refuses a change of nf_tables{about}: {refusal}{}", remedy(refusal.errno()));
        ApplyError { kind: kind(refusal.errno()), message, chain }
    }
}

/// The conversation itself failed.
pub(super) fn of_conversation(error: &NetlinkError) -> ApplyError {
    let kind = match error {
        NetlinkError::TooLong { .. } => ApplyErrorKind::Refused,
        NetlinkError::Overrun { .. } => ApplyErrorKind::Refused,
        _ => error.errno().map_or(ApplyErrorKind::Busy, kind),
    };
    ApplyError { kind, message: error.to_string(), chain: None }
}

/// What a refusal is worth trying again.
fn kind(errno: Errno) -> ApplyErrorKind {
    match errno {
        Errno::EPERM | Errno::EACCES | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::ENOSYS => {
            ApplyErrorKind::Unavailable
        }
        Errno::ENOMEM | Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ERESTART | Errno::ETIMEDOUT => {
            ApplyErrorKind::Busy
        }
        _ => ApplyErrorKind::Refused,
    }
}

/// What the usual refusals mean here.
fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => {
            "; the kernel lacks a match or target of the rule, or something that it names; remedy: load the \
             module (xt_comment, xt_statistic, xt_nat, …) or use --iptables-driver restore to read the tool's answer"
        }
        Errno::EMLINK => "; chains are nested deeper than the kernel follows, or lead back to themselves",
        Errno::EOPNOTSUPP | Errno::EEXIST => {
            "; a built-in chain of this table was made with another hook or priority than iptables gives it; remedy: \
             delete that chain or table with `nft`"
        }
        _ => "",
    }
}
