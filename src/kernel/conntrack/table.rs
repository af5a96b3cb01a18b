//! The kernel's connection tracking table of one network namespace.

use std::ops::ControlFlow;
use std::time::Instant;

use nix::errno::Errno;

use super::{Filter, Flow, codec};
use crate::kernel::netlink::{Answer, Batch, NetlinkError, Protocol, Refusal, Socket};

/// Entries are deleted this many at a time: their answers, if all are refused, fit the smallest usual receive buffer.
const CHUNK: usize = 128;

/// The deadline is looked at once in this many entries.
const CLOCK_EVERY: u64 = 256;

/// What to do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Keep,
    Delete,
    /// Look at no more entries.
    Stop,
}

/// How a walk over the table ended, if not in an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every entry was seen.
    Complete,
    /// The table changed under the walk: some entries may not have been seen.
    Interrupted,
    /// The visitor stopped it.
    Stopped,
}

/// Counts of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Looked at.
    pub seen: u64,
    /// Deleted; an entry that was gone before we came to it is not counted.
    pub deleted: u64,
}

/// Reading or changing the table failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConntrackError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The walk was given up.
    #[error("cannot go through the connection tracking table in time: gave up after {seen} entries")]
    Deadline { seen: u64 },
}

/// A connection tracking table: the kernel's, or one for tests.
pub trait FlowTable {
    /// Looks at every entry that the filter lets through and deletes those that `judge` says, counting into `purged`
    /// (also when it ends in an error). Uses the same memory for any number of entries.
    fn purge(
        &mut self,
        filter: &Filter,
        deadline: Instant,
        judge: &mut dyn FnMut(&Flow) -> Judgement,
        purged: &mut Purged,
    ) -> Result<Ending, ConntrackError>;
}

/// The table of the network namespace that the opening thread was in.
///
/// There is no "delete all that match" here, although newer kernels offer it: what is stale is "not answered by one of
/// these", which a kernel's filter cannot say, and each such request walks the whole table.
#[derive(Debug)]
pub struct Conntrack {
    lister: Lister,
    /// A second socket, as entries are deleted while the list is still being read.
    deleter: Socket,
}

impl Conntrack {
    /// Opens the table of the calling thread's network namespace; use it in that namespace.
    pub fn open() -> Result<Self, ConntrackError> {
        Ok(Conntrack {
            lister: Lister { socket: Socket::open(Protocol::Netfilter)?, kernel_filters: true },
            deleter: Socket::open(Protocol::Netfilter)?,
        })
    }

    /// Visits every entry that the filter lets through, until `visit` breaks off. Uses the same memory for any number of
    /// entries.
    pub fn dump(
        &mut self,
        filter: &Filter,
        visit: &mut dyn FnMut(&Flow) -> ControlFlow<()>,
    ) -> Result<Ending, ConntrackError> {
        Ok(self.lister.dump(filter, visit)?)
    }

    /// Deletes these entries and gives the number of those that were there. Asks nothing of the kernel for none.
    pub fn delete(&mut self, flows: &[Flow]) -> Result<u64, ConntrackError> {
        let mut deleted = 0;
        for chunk in flows.chunks(CHUNK) {
            deleted += delete_chunk(&mut self.deleter, chunk)?;
        }
        Ok(deleted)
    }
}

impl FlowTable for Conntrack {
    fn purge(
        &mut self,
        filter: &Filter,
        deadline: Instant,
        judge: &mut dyn FnMut(&Flow) -> Judgement,
        purged: &mut Purged,
    ) -> Result<Ending, ConntrackError> {
        let Conntrack { lister, deleter } = self;
        let mut stale = Vec::with_capacity(CHUNK);
        let mut failure = None;
        let ending = lister.dump(filter, &mut |flow| {
            if purged.seen.is_multiple_of(CLOCK_EVERY) && Instant::now() >= deadline {
                failure = Some(ConntrackError::Deadline { seen: purged.seen });
                return ControlFlow::Break(());
            }
            purged.seen += 1;
            match judge(flow) {
                Judgement::Keep => return ControlFlow::Continue(()),
                Judgement::Stop => return ControlFlow::Break(()),
                Judgement::Delete => stale.push(*flow),
            }
            if stale.len() == CHUNK {
                match delete_chunk(deleter, &stale) {
                    Ok(deleted) => purged.deleted += deleted,
                    Err(error) => {
                        failure = Some(error);
                        return ControlFlow::Break(());
                    }
                }
                stale.clear();
            }
            ControlFlow::Continue(())
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if ending != Ending::Stopped {
            purged.deleted += delete_chunk(deleter, &stale)?;
        }
        Ok(ending)
    }
}

/// Reads lists, with the kernel's help if it has filters.
#[derive(Debug)]
struct Lister {
    socket: Socket,
    /// Not yet refused.
    kernel_filters: bool,
}

impl Lister {
    fn dump(
        &mut self,
        filter: &Filter,
        visit: &mut dyn FnMut(&Flow) -> ControlFlow<()>,
    ) -> Result<Ending, NetlinkError> {
        if self.kernel_filters {
            match self.walk(filter, visit) {
                // A kernel that does not know some part of the filter says so before the first entry.
                Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP)) => {
                    self.kernel_filters = false;
                }
                ended => return ended,
            }
        }
        self.walk(filter, visit)
    }

    fn walk(
        &mut self,
        filter: &Filter,
        visit: &mut dyn FnMut(&Flow) -> ControlFlow<()>,
    ) -> Result<Ending, NetlinkError> {
        let mut batch = Batch::new("list connection tracking entries");
        codec::list(&mut batch, filter, self.kernel_filters);
        let mut dump = self.socket.dump(&mut batch)?;
        while let Some(message) = dump.next_message()? {
            // Kernels before 5.8 pass over the filter and list everything, so it is applied here in any case.
            if let Some(flow) = codec::read(&message).filter(|flow| filter.matches(flow))
                && visit(&flow).is_break()
            {
                return Ok(Ending::Stopped);
            }
        }
        Ok(if dump.interrupted() { Ending::Interrupted } else { Ending::Complete })
    }
}

/// Deletes at most [`CHUNK`] entries with one send; only the last is acknowledged, as refusals always come.
fn delete_chunk(socket: &mut Socket, flows: &[Flow]) -> Result<u64, ConntrackError> {
    let mut batch = Batch::new("delete connection tracking entries");
    for flow in flows {
        codec::delete(&mut batch, flow);
    }
    let mut deleted = u64::try_from(batch.len()).unwrap_or(u64::MAX);
    let mut failure: Option<Refusal> = None;
    socket.transact(&mut batch, |_, answer| {
        if let Answer::Refused(refusal) = answer {
            deleted = deleted.saturating_sub(1);
            // It ended by itself, or is another one by now.
            if refusal.errno() != Errno::ENOENT {
                failure.get_or_insert(refusal);
            }
        }
    })?;
    match failure {
        None => Ok(deleted),
        Some(refusal) => Err(NetlinkError::Refused { asked: batch.asked(), refusal }.into()),
    }
}
