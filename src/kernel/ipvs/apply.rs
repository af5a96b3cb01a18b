//! Making a difference true, whatever the kernel holds.
//!
//! A request is chosen by what we believe is there: something new is added, something known is set. The kernel refuses
//! what does not fit (EEXIST, ENOENT, ESRCH), and only what it refused is asked for again the other way round.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::request::{Command, Request, Table};
use super::{Changes, Refused, VirtualServer, VirtualServerKey, order};
use crate::kernel::netlink::{NetlinkError, Refusal};
use crate::kernel::{ApplyError, ApplyErrorKind};

/// How often what was refused is asked for the other way round. Once is enough unless another program adds and deletes
/// the same servers at the same time; a virtual server that vanished takes one more, for its real servers.
const ATTEMPTS: usize = 4;

/// Makes these changes on a table. What [`Ipvs::apply`](super::Ipvs::apply) says holds; `order_seed` decides in which
/// order real servers are added ([`order::additions`]).
///
/// # Errors
/// The first failure, with the virtual server that it is about.
pub fn apply(table: &mut dyn Table, changes: &Changes, order_seed: u64) -> Result<(), Refused> {
    let mut run = Run { table, changes, failed: BTreeSet::new(), first: None };
    run.make(order::additions(changes, order_seed))?;
    run.make(order::removals(changes))?;
    let more = run.failed.len().saturating_sub(1);
    match run.first {
        None => Ok(()),
        Some(refused) => {
            if more > 0 {
                tracing::warn!(more, error = %refused, "more virtual servers were refused");
            }
            Err(refused)
        }
    }
}

struct Run<'a, 't> {
    table: &'t mut dyn Table,
    changes: &'a Changes,
    /// Virtual servers of which something was refused.
    failed: BTreeSet<VirtualServerKey>,
    first: Option<Refused>,
}

impl<'a> Run<'a, '_> {
    /// Makes requests, and again those that were refused for what was there.
    fn make(&mut self, mut requests: Vec<Request<'a>>) -> Result<(), Refused> {
        for attempt in 1..=ATTEMPTS {
            if requests.is_empty() {
                return Ok(());
            }
            let mut answers = Vec::new();
            let sent = self.table.write(&requests, &mut |index, refusal| answers.push((index, refusal)));
            sent.map_err(|error| of_conversation(&error))?;
            requests = self.another_way(&requests, answers, attempt == ATTEMPTS);
        }
        Ok(())
    }

    /// What to ask for instead of what was refused. Tells of what was refused for good.
    fn another_way(
        &mut self,
        requests: &[Request<'a>],
        answers: Vec<(usize, Refusal)>,
        is_last: bool,
    ) -> Vec<Request<'a>> {
        // A virtual server that is missing is made once, not once for each of its real servers.
        let mut again = BTreeMap::<VirtualServerKey, (Option<&'a VirtualServer>, Vec<Request<'a>>)>::new();
        for (index, refusal) in answers {
            let Some(request) = requests.get(index) else { continue };
            let wanted = self.changes.servers.get(&request.key).and_then(|change| change.after.as_ref());
            match Remedy::of(&request.command, refusal.errno(), wanted) {
                Remedy::Nothing => {}
                Remedy::Command(command) if !is_last => {
                    again.entry(request.key).or_default().1.push(Request { command, ..*request });
                }
                Remedy::Server(server, command) if !is_last => {
                    let entry = again.entry(request.key).or_default();
                    if entry.0.replace(server).is_none() && !self.failed.contains(&request.key) {
                        // Its other real servers are not in this difference: comparing with the kernel brings them back.
                        tracing::warn!(server = %request.key, "a virtual server is gone from the kernel; making it again");
                    }
                    entry.1.push(Request { command, ..*request });
                }
                _ => self.refused(request, &refusal),
            }
        }
        // What is refused to a virtual server that cannot be made only follows from that.
        again.retain(|key, (server, _)| server.is_none() || !self.failed.contains(key));
        let with_server = |(key, (server, requests)): (VirtualServerKey, (Option<&'a VirtualServer>, Vec<_>))| {
            let server = server.map(|server| Request { key, command: Command::NewServer(server) });
            server.into_iter().chain(requests)
        };
        again.into_iter().flat_map(with_server).collect()
    }

    fn refused(&mut self, request: &Request<'_>, refusal: &Refusal) {
        self.failed.insert(request.key);
        if self.first.is_none() {
            self.first = Some(Refused { error: explain(request, refusal), server: Some(request.key) });
        }
    }
}

/// What helps against a refusal.
enum Remedy<'a> {
    /// It is as wanted.
    Nothing,
    /// Another request.
    Command(Command<'a>),
    /// Its virtual server first, then the request.
    Server(&'a VirtualServer, Command<'a>),
    /// Nothing does.
    None,
}

impl<'a> Remedy<'a> {
    fn of(command: &Command<'a>, errno: Errno, wanted: Option<&'a VirtualServer>) -> Self {
        match (*command, errno) {
            (Command::NewServer(server), Errno::EEXIST) => Remedy::Command(Command::SetServer(server)),
            // ENOENT is not about the server: there is no such scheduler.
            (Command::SetServer(server), Errno::ESRCH) => Remedy::Command(Command::NewServer(server)),
            (Command::NewReal(endpoint, real), Errno::EEXIST) => Remedy::Command(Command::SetReal(endpoint, real)),
            (Command::SetReal(endpoint, real), Errno::ENOENT) => Remedy::Command(Command::NewReal(endpoint, real)),
            (Command::NewReal(endpoint, real) | Command::SetReal(endpoint, real), Errno::ESRCH) => match wanted {
                Some(server) => Remedy::Server(server, Command::NewReal(endpoint, real)),
                None => Remedy::None,
            },
            (Command::DeleteServer, Errno::ESRCH) => Remedy::Nothing,
            (Command::DeleteReal(_), Errno::ENOENT | Errno::ESRCH) => Remedy::Nothing,
            _ => Remedy::None,
        }
    }
}

/// One request was refused for good: what was asked, and what the kernel said.
fn explain(request: &Request<'_>, refusal: &Refusal) -> ApplyError {
    let message = match (request.command, refusal.errno()) {
        (Command::NewServer(server) | Command::SetServer(server), Errno::ENOENT) => format!(
            "cannot {request}: the kernel has no scheduler {:?} ({refusal}); load its module ip_vs_{}, or choose another \
             scheduler",
            server.scheduler.as_str(),
            server.scheduler
        ),
        (Command::NewReal(..), Errno::EINVAL) => format!(
            "cannot {request}: the kernel refused: {refusal}; a real server needs a unicast address of the virtual \
             server's family"
        ),
        _ => format!("cannot {request}: the kernel refused: {refusal}"),
    };
    ApplyError { kind: kind(refusal.errno()), message, chain: None }
}

/// The conversation itself failed.
fn of_conversation(error: &NetlinkError) -> Refused {
    let kind = match error {
        NetlinkError::TooLong { .. } => ApplyErrorKind::Refused,
        _ => error.errno().map_or(ApplyErrorKind::Busy, kind),
    };
    Refused { error: ApplyError { kind, message: error.to_string(), chain: None }, server: None }
}

/// What to do about an error number.
fn kind(errno: Errno) -> ApplyErrorKind {
    match errno {
        Errno::EPERM | Errno::EACCES => ApplyErrorKind::Unavailable,
        Errno::ENOMEM | Errno::ENOBUFS | Errno::EINTR | Errno::EBUSY | Errno::EAGAIN => ApplyErrorKind::Busy,
        _ => ApplyErrorKind::Refused,
    }
}
