//! One request to the kernel, and what takes requests.

use std::fmt;

use super::{RealServer, VirtualServer, VirtualServerKey};
use crate::kernel::netlink::{NetlinkError, Refusal};
use crate::net::Endpoint;

/// What is asked for one virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub key: VirtualServerKey,
    pub command: Command<'a>,
}

/// The commands that write (`IPVS_CMD_*` of uapi `linux/ip_vs.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Fails if it is there (EEXIST).
    NewServer(&'a VirtualServer),
    /// Fails if it is not there (ESRCH).
    SetServer(&'a VirtualServer),
    /// With all its real servers. Fails if it is not there (ESRCH).
    DeleteServer,
    /// Fails if it is there (EEXIST), or its virtual server is not (ESRCH).
    NewReal(Endpoint, RealServer),
    /// Fails if it is not there (ENOENT), or its virtual server is not (ESRCH).
    SetReal(Endpoint, RealServer),
    /// Fails as [`Command::SetReal`].
    DeleteReal(Endpoint),
}

impl fmt::Display for Request<'_> {
    /// A verb and its object, for errors: `add real server 10.0.0.1:80 to virtual server 10.96.0.1:80/TCP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key;
        match self.command {
            Command::NewServer(_) => write!(f, "add virtual server {key}"),
            Command::SetServer(_) => write!(f, "change virtual server {key}"),
            Command::DeleteServer => write!(f, "delete virtual server {key}"),
            Command::NewReal(endpoint, _) => write!(f, "add real server {endpoint} to virtual server {key}"),
            Command::SetReal(endpoint, _) => write!(f, "change real server {endpoint} of virtual server {key}"),
            Command::DeleteReal(endpoint) => write!(f, "delete real server {endpoint} of virtual server {key}"),
        }
    }
}

/// What takes requests: the kernel's table of virtual servers, or one for tests.
pub trait Table {
    /// Makes these requests in their order, each on its own. `refused` gets the place of each that the kernel refuses.
    ///
    /// # Errors
    /// Those of the conversation. What became of the requests is unknown then.
    fn write(&mut self, requests: &[Request<'_>], refused: &mut dyn FnMut(usize, Refusal)) -> Result<(), NetlinkError>;
}
