//! The kernel's own IPVS, by generic netlink.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::decode::{self, DecodeError, DecodedServer};
use super::probe::{self, ProbeError};
use super::request::{Request, Table};
use super::{
    Changes, Ipvs, ObservedRealServer, ObservedVirtualServer, Refused, Scheduler, VirtualServerKey, apply, encode, wire,
};
use crate::kernel::netlink::{Answer, Batch, Message, NetlinkError, Protocol, Refusal, Socket, generic};
use crate::kernel::{ObserveError, Traffic};
use crate::net::{Endpoint, Family};

/// Requests are sent this many at a time, some 30 KB: their answers, if all are refused, fit the smallest usual receive
/// buffer.
const CHUNK: usize = 200;

/// How often a list is read that changed while it was read.
const ATTEMPTS: usize = 4;

/// IPVS cannot be used, or not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpvsError {
    #[error("the kernel has no IPVS: load its module (`modprobe ip_vs`), or use a kernel with CONFIG_IP_VS")]
    Missing,
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error("cannot {asked}: the list changed while it was read, {ATTEMPTS} times in a row; try again")]
    Changing { asked: &'static str },
}

impl From<IpvsError> for ObserveError {
    fn from(error: IpvsError) -> Self {
        ObserveError { message: error.to_string() }
    }
}

/// IPVS of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct IpvsDriver {
    socket: Socket,
    /// The number of the family of generic netlink.
    family: u16,
    version: [u8; 3],
    order_seed: u64,
}

impl IpvsDriver {
    /// Opens it; the kernel loads its module if it can. The seed tells the node from others: it decides in which order
    /// the real servers of a new virtual server are added, and with that where round robin begins.
    ///
    /// # Errors
    /// [`IpvsError::Missing`]; or the capability CAP_NET_ADMIN is missing, which the error says.
    pub fn open(order_seed: u64) -> Result<Self, IpvsError> {
        let mut socket = Socket::open(Protocol::Generic)?;
        let family = generic::family(&mut socket, wire::FAMILY)?.ok_or(IpvsError::Missing)?;
        // Everybody may ask for the family, only the capable for anything else.
        let version = version(&mut socket, family)?;
        Ok(IpvsDriver { socket, family, version, order_seed })
    }

    /// Counts what is sent from now on there.
    pub fn count(&mut self, traffic: Traffic) {
        self.socket.count(traffic);
    }

    /// The version of the kernel's IPVS: 1.2.1 for many years.
    pub fn version(&self) -> [u8; 3] {
        self.version
    }

    fn servers(&mut self, wanted: Family) -> Result<BTreeMap<VirtualServerKey, DecodedServer>, IpvsError> {
        // With no virtual server there, the module may have been unloaded and loaded again, with another number.
        self.family = generic::family(&mut self.socket, wire::FAMILY)?.ok_or(IpvsError::Missing)?;
        let mut batch = Batch::new("list virtual servers");
        encode::list_servers(&mut batch, self.family);
        list(&mut self.socket, &mut batch, |message| {
            let server = decode::virtual_server(message.payload)?.filter(|server| server.key.family() == wanted);
            Ok(server.map(|server| (server.key, server)))
        })
    }

    /// The real servers of one virtual server, and whether one has something that weir does not know.
    fn reals(&mut self, key: &VirtualServerKey) -> Result<(BTreeMap<Endpoint, ObservedRealServer>, bool), IpvsError> {
        let mut batch = Batch::new("list real servers");
        encode::list_real_servers(&mut batch, self.family, key);
        let mut unknown = false;
        let reals = list(&mut self.socket, &mut batch, |message| {
            let real = decode::real_server(message.payload, key.family())?;
            unknown |= real.unknown;
            Ok(Some((real.endpoint, real.observed)))
        })?;
        Ok((reals, unknown))
    }

    fn is_there(&mut self, key: &VirtualServerKey) -> Result<bool, IpvsError> {
        let mut batch = Batch::new("look for a virtual server");
        encode::get_server(&mut batch, self.family, key);
        match self.socket.ask(&mut batch, |_| Some(()))? {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.errno() == Errno::ESRCH => Ok(false),
            Err(refusal) => Err(NetlinkError::Refused { asked: batch.asked(), refusal }.into()),
        }
    }

    fn real_servers_if_there(
        &mut self,
        key: &VirtualServerKey,
    ) -> Result<Option<BTreeMap<Endpoint, ObservedRealServer>>, IpvsError> {
        let (reals, _) = self.reals(key)?;
        // The kernel's list for a virtual server that is not there is empty as well.
        Ok(if reals.is_empty() && !self.is_there(key)? { None } else { Some(reals) })
    }

    fn write_timeouts(&mut self, tcp: u32, tcp_fin: u32, udp: u32) -> Result<(), IpvsError> {
        if [tcp, tcp_fin, udp] == [0; 3] {
            return Ok(());
        }
        let mut batch = Batch::new("set the timeouts of IPVS");
        encode::set_timeouts(&mut batch, self.family, tcp, tcp_fin, udp);
        let answer = self.socket.ask(&mut batch, |_| Some(()))?;
        answer.map_err(|refusal| NetlinkError::Refused { asked: batch.asked(), refusal })?;
        Ok(())
    }
}

impl Table for IpvsDriver {
    fn write(&mut self, requests: &[Request<'_>], refused: &mut dyn FnMut(usize, Refusal)) -> Result<(), NetlinkError> {
        let mut batch = Batch::new("change virtual servers");
        for (chunk, first) in requests.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
            batch.clear();
            for request in chunk {
                encode::write(&mut batch, self.family, request);
            }
            self.socket.transact(&mut batch, |index, answer| {
                if let Answer::Refused(refusal) = answer {
                    refused(first + index, refusal);
                }
            })?;
        }
        Ok(())
    }
}

impl Ipvs for IpvsDriver {
    fn observe(&mut self, family: Family, visit: &mut dyn FnMut(ObservedVirtualServer)) -> Result<(), ObserveError> {
        for (key, DecodedServer { server, unknown, .. }) in self.servers(family)? {
            let (real_servers, odd_real) = self.reals(&key)?;
            visit(ObservedVirtualServer { key, server, unknown: unknown || odd_real, real_servers });
        }
        Ok(())
    }

    fn real_servers(
        &mut self,
        key: &VirtualServerKey,
    ) -> Result<Option<BTreeMap<Endpoint, ObservedRealServer>>, ObserveError> {
        Ok(self.real_servers_if_there(key)?)
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), Refused> {
        let order_seed = self.order_seed;
        apply::apply(self, changes, order_seed)
    }

    fn has_scheduler(&mut self, scheduler: &Scheduler) -> Result<bool, ObserveError> {
        Ok(probe::has_scheduler(self, scheduler).map_err(IpvsError::from)?)
    }

    fn set_timeouts(&mut self, tcp: u32, tcp_fin: u32, udp: u32) -> Result<(), ObserveError> {
        Ok(self.write_timeouts(tcp, tcp_fin, udp)?)
    }
}

/// Reads a list as a map, in which what the kernel names twice is once.
fn list<K: Ord, V>(
    socket: &mut Socket,
    batch: &mut Batch,
    mut read: impl FnMut(&Message<'_>) -> Result<Option<(K, V)>, DecodeError>,
) -> Result<BTreeMap<K, V>, IpvsError> {
    for _ in 0..ATTEMPTS {
        let mut found = BTreeMap::new();
        let mut dump = socket.dump(batch)?;
        while let Some(message) = dump.next_message()? {
            found.extend(read(&message)?);
        }
        if !dump.interrupted() {
            return Ok(found);
        }
    }
    Err(IpvsError::Changing { asked: batch.asked() })
}

fn version(socket: &mut Socket, family: u16) -> Result<[u8; 3], IpvsError> {
    let mut batch = Batch::new("use IPVS");
    encode::get_info(&mut batch, family);
    let answer = socket.ask(&mut batch, |message| decode::version(message.payload))?;
    let asked = batch.asked();
    let version = answer.map_err(|refusal| NetlinkError::Refused { asked, refusal })?;
    version.ok_or(IpvsError::Netlink(NetlinkError::Malformed { asked, what: "it names no version" }))
}
