//! Whether the kernel has a scheduler.

use std::net::{IpAddr, Ipv4Addr};

use nix::errno::Errno;

use super::request::{Command, Request, Table};
use super::{Scheduler, ServerFlags, VirtualServer, VirtualServerKey};
use crate::kernel::netlink::{NetlinkError, Refusal};
use crate::net::Protocol;

/// An address for documentation (RFC 5737), which nobody has; the one that kube-proxy tries schedulers with (contract
/// 4.1).
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 0));
/// Where to begin, and how many ports to try: another program's virtual server is never touched.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 16;

/// A scheduler cannot be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    #[error("cannot try the scheduler {scheduler}: cannot {asked}: the kernel refused: {refusal}")]
    Refused { scheduler: Scheduler, asked: String, refusal: Refusal },
    #[error(
        "cannot try the scheduler {0}: virtual servers TCP {ADDRESS} with the ports {FIRST_PORT} to {last} are there; \
         delete one of them",
        last = FIRST_PORT + PORTS - 1
    )]
    Occupied(Scheduler),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Adds a temporary virtual server with this scheduler, which has the kernel load its module, and deletes it.
///
/// # Errors
/// The kernel refuses either for another reason than that it lacks the scheduler, or the conversation fails.
pub fn has_scheduler(table: &mut dyn Table, scheduler: &Scheduler) -> Result<bool, ProbeError> {
    let server = VirtualServer { scheduler: scheduler.clone(), flags: ServerFlags::default(), timeout: 0, prefix: 32 };
    for port in FIRST_PORT..FIRST_PORT + PORTS {
        let key = VirtualServerKey::new(Protocol::Tcp, ADDRESS, port);
        let refused = |request: &Request<'_>, refusal| ProbeError::Refused {
            scheduler: scheduler.clone(),
            asked: request.to_string(),
            refusal,
        };
        let add = Request { key, command: Command::NewServer(&server) };
        match ask(table, &add)? {
            None => {}
            Some(refusal) if refusal.errno() == Errno::EEXIST => continue,
            Some(refusal) if refusal.errno() == Errno::ENOENT => return Ok(false),
            Some(refusal) => return Err(refused(&add, refusal)),
        }
        let delete = Request { key, command: Command::DeleteServer };
        return match ask(table, &delete)? {
            // Somebody else was faster.
            Some(refusal) if refusal.errno() != Errno::ESRCH => Err(refused(&delete, refusal)),
            _ => Ok(true),
        };
    }
    Err(ProbeError::Occupied(scheduler.clone()))
}

/// Makes one request; gives what the kernel refused it with, if it did.
fn ask(table: &mut dyn Table, request: &Request<'_>) -> Result<Option<Refusal>, NetlinkError> {
    let mut refused = None;
    table.write(std::slice::from_ref(request), &mut |_, refusal| refused = Some(refusal))?;
    Ok(refused)
}
