//! IPVS in memory.
//!
//! It takes the very requests that the driver sends and refuses them with the error numbers that the kernel gives, so
//! that a test meets the same code on the way in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use crate::kernel::ObserveError;
use crate::kernel::ipvs::request::{Command, Request, Table};
use crate::kernel::ipvs::{
    Changes, Forwarding, Ipvs, IpvsError, ObservedRealServer, ObservedVirtualServer, RealServer, Refused, Scheduler,
    VirtualServer, VirtualServerKey, apply, probe,
};
use crate::kernel::netlink::{NetlinkError, Refusal};
use crate::net::{Endpoint, Family};

/// How many requests of each kind were made, those that were refused among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    pub new_servers: usize,
    pub set_servers: usize,
    pub deleted_servers: usize,
    pub new_reals: usize,
    pub set_reals: usize,
    pub deleted_reals: usize,
}

impl Messages {
    /// All of them.
    pub fn total(&self) -> usize {
        let servers = self.new_servers + self.set_servers + self.deleted_servers;
        servers + self.new_reals + self.set_reals + self.deleted_reals
    }

    fn count(&mut self, command: &Command<'_>) {
        let counter = match command {
            Command::NewServer(_) => &mut self.new_servers,
            Command::SetServer(_) => &mut self.set_servers,
            Command::DeleteServer => &mut self.deleted_servers,
            Command::NewReal(..) => &mut self.new_reals,
            Command::SetReal(..) => &mut self.set_reals,
            Command::DeleteReal(_) => &mut self.deleted_reals,
        };
        *counter += 1;
    }
}

/// When a virtual server is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Once(Errno),
    Always(Errno),
}

/// A virtual server, with its real servers as the kernel's list has them: the newest first.
#[derive(Clone, Debug)]
struct Server {
    server: VirtualServer,
    unknown: bool,
    real_servers: Vec<(Endpoint, ObservedRealServer)>,
}

/// IPVS of one network namespace. To keep a hand on it while an engine owns it, share it: [`Ipvs`] is implemented for
/// `Arc<Mutex<SimIpvs>>` too.
#[derive(Debug, Default)]
pub struct SimIpvs {
    order_seed: u64,
    servers: BTreeMap<VirtualServerKey, Server>,
    /// Real servers that were deleted with connections: the kernel keeps these, and gives them back to a real server
    /// that comes back.
    trash: BTreeMap<(VirtualServerKey, Endpoint), ObservedRealServer>,
    missing: BTreeSet<Scheduler>,
    faults: BTreeMap<VirtualServerKey, Fault>,
    unavailable: Option<Errno>,
    messages: Messages,
    keys: BTreeSet<VirtualServerKey>,
    timeouts: [u32; 3],
}

impl SimIpvs {
    /// An empty table of a kernel that has all schedulers of [`Scheduler::KNOWN`]. The seed is that of
    /// [`IpvsDriver::open`](crate::kernel::ipvs::IpvsDriver::open).
    pub fn new(order_seed: u64) -> Self {
        SimIpvs { order_seed, timeouts: [900, 120, 300], ..SimIpvs::default() }
    }

    /// From now on the kernel lacks this scheduler. Virtual servers that have it keep it.
    pub fn remove_scheduler(&mut self, scheduler: Scheduler) {
        self.missing.insert(scheduler);
    }

    /// The kernel has it again.
    pub fn restore_scheduler(&mut self, scheduler: &Scheduler) {
        self.missing.remove(scheduler);
    }

    /// The next request about this virtual server or a real server of it is refused with this error.
    pub fn refuse_once(&mut self, key: VirtualServerKey, errno: Errno) {
        self.faults.insert(key, Fault::Once(errno));
    }

    /// From now on, every request about this virtual server or a real server of it is refused with this error.
    pub fn refuse_always(&mut self, key: VirtualServerKey, errno: Errno) {
        self.faults.insert(key, Fault::Always(errno));
    }

    /// Refuses requests about this virtual server no more.
    pub fn refuse_no_more(&mut self, key: &VirtualServerKey) {
        self.faults.remove(key);
    }

    /// From now on every conversation fails with this error, for writing and reading; `None`: it works again.
    pub fn set_unavailable(&mut self, errno: Option<Errno>) {
        self.unavailable = errno;
    }

    /// What another program does: puts a virtual server with its real servers there, in the place of one of that key.
    pub fn add_foreign(&mut self, foreign: ObservedVirtualServer) {
        let ObservedVirtualServer { key, server, unknown, real_servers } = foreign;
        self.servers.insert(key, Server { server, unknown, real_servers: real_servers.into_iter().collect() });
    }

    /// What another program does: deletes a virtual server. False if it is not there.
    pub fn remove(&mut self, key: &VirtualServerKey) -> bool {
        self.delete_server(key).is_ok()
    }

    /// What another program does: deletes one real server. False if it is not there.
    pub fn remove_real_server(&mut self, key: &VirtualServerKey, endpoint: &Endpoint) -> bool {
        self.delete_real(key, endpoint).is_ok()
    }

    /// Sets how many connections a real server has, also one that was deleted while it had some. False if it is not
    /// there.
    pub fn set_connections(
        &mut self,
        key: &VirtualServerKey,
        endpoint: &Endpoint,
        active: u32,
        inactive: u32,
        persistent: u32,
    ) -> bool {
        let live = self.servers.get_mut(key).and_then(|server| server.real(endpoint));
        let Some(observed) = live.or_else(|| self.trash.get_mut(&(*key, *endpoint))) else { return false };
        *observed = ObservedRealServer { active, inactive, persistent, ..*observed };
        self.trash.retain(|_, deleted| deleted.connections() + deleted.persistent > 0);
        true
    }

    /// All virtual servers, both families.
    pub fn servers(&self) -> Vec<ObservedVirtualServer> {
        self.servers.iter().map(|(key, server)| server.observed(*key)).collect()
    }

    /// One virtual server.
    pub fn server(&self, key: &VirtualServerKey) -> Option<ObservedVirtualServer> {
        self.servers.get(key).map(|server| server.observed(*key))
    }

    /// The real servers of a virtual server as the kernel's list has them: round robin begins at the first, which is
    /// the one that was added last. Empty if there is no such virtual server.
    pub fn real_server_order(&self, key: &VirtualServerKey) -> Vec<Endpoint> {
        let real_servers = self.servers.get(key).into_iter().flat_map(|server| &server.real_servers);
        real_servers.map(|(endpoint, _)| *endpoint).collect()
    }

    /// The requests since the last call, and the virtual servers that they were about.
    pub fn take_messages(&mut self) -> (Messages, BTreeSet<VirtualServerKey>) {
        (std::mem::take(&mut self.messages), std::mem::take(&mut self.keys))
    }

    /// The timeouts in seconds: TCP, TCP after a FIN, UDP.
    pub fn timeouts(&self) -> [u32; 3] {
        self.timeouts
    }

    fn take_fault(&mut self, key: &VirtualServerKey) -> Result<(), Errno> {
        match self.faults.get(key).copied() {
            None => Ok(()),
            Some(Fault::Always(errno)) => Err(errno),
            Some(Fault::Once(errno)) => {
                self.faults.remove(key);
                Err(errno)
            }
        }
    }

    fn execute(&mut self, request: &Request<'_>) -> Result<(), Errno> {
        self.messages.count(&request.command);
        self.keys.insert(request.key);
        self.take_fault(&request.key)?;
        let key = request.key;
        match request.command {
            Command::NewServer(server) => self.new_server(key, server),
            Command::SetServer(server) => self.set_server(key, server),
            Command::DeleteServer => self.delete_server(&key),
            Command::NewReal(endpoint, real) => self.new_real(key, endpoint, real),
            Command::SetReal(endpoint, real) => self.set_real(&key, &endpoint, real),
            Command::DeleteReal(endpoint) => self.delete_real(&key, &endpoint),
        }
    }

    fn has(&self, scheduler: &Scheduler) -> Result<(), Errno> {
        let known = Scheduler::KNOWN.contains(&scheduler.as_str()) && !self.missing.contains(scheduler);
        if known { Ok(()) } else { Err(Errno::ENOENT) }
    }

    fn new_server(&mut self, key: VirtualServerKey, server: &VirtualServer) -> Result<(), Errno> {
        if self.servers.contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        self.has(&server.scheduler)?;
        check_prefix(&key, server)?;
        self.servers.insert(key, Server { server: server.clone(), unknown: false, real_servers: Vec::new() });
        Ok(())
    }

    fn set_server(&mut self, key: VirtualServerKey, server: &VirtualServer) -> Result<(), Errno> {
        let is_there = self.servers.contains_key(&key);
        if !is_there {
            return Err(Errno::ESRCH);
        }
        self.has(&server.scheduler)?;
        check_prefix(&key, server)?;
        if let Some(there) = self.servers.get_mut(&key) {
            // A persistence engine that is not named is taken away.
            (there.server, there.unknown) = (server.clone(), false);
        }
        Ok(())
    }

    fn delete_server(&mut self, key: &VirtualServerKey) -> Result<(), Errno> {
        let Server { real_servers, .. } = self.servers.remove(key).ok_or(Errno::ESRCH)?;
        for (endpoint, observed) in real_servers {
            self.discard(*key, endpoint, observed);
        }
        Ok(())
    }

    fn new_real(&mut self, key: VirtualServerKey, endpoint: Endpoint, real: RealServer) -> Result<(), Errno> {
        let server = self.servers.get_mut(&key).ok_or(Errno::ESRCH)?;
        check_real(&key, &endpoint, &real)?;
        if server.real(&endpoint).is_some() {
            return Err(Errno::EEXIST);
        }
        let kept = self.trash.remove(&(key, endpoint)).unwrap_or_default();
        server.real_servers.insert(0, (endpoint, ObservedRealServer { server: real, ..kept }));
        Ok(())
    }

    fn set_real(&mut self, key: &VirtualServerKey, endpoint: &Endpoint, real: RealServer) -> Result<(), Errno> {
        let server = self.servers.get_mut(key).ok_or(Errno::ESRCH)?;
        check_real(key, endpoint, &real)?;
        server.real(endpoint).ok_or(Errno::ENOENT)?.server = real;
        Ok(())
    }

    fn delete_real(&mut self, key: &VirtualServerKey, endpoint: &Endpoint) -> Result<(), Errno> {
        let server = self.servers.get_mut(key).ok_or(Errno::ESRCH)?;
        let place = server.real_servers.iter().position(|(at, _)| at == endpoint).ok_or(Errno::ENOENT)?;
        let (_, observed) = server.real_servers.remove(place);
        self.discard(*key, *endpoint, observed);
        Ok(())
    }

    fn discard(&mut self, key: VirtualServerKey, endpoint: Endpoint, observed: ObservedRealServer) {
        if observed.connections() + observed.persistent > 0 {
            self.trash.insert((key, endpoint), observed);
        }
    }

    fn converse(&self, asked: &'static str) -> Result<(), NetlinkError> {
        let refused = |errno| NetlinkError::Refused { asked, refusal: refusal(errno) };
        self.unavailable.map_or(Ok(()), |errno| Err(refused(errno)))
    }
}

impl Server {
    fn real(&mut self, endpoint: &Endpoint) -> Option<&mut ObservedRealServer> {
        self.real_servers.iter_mut().find(|(at, _)| at == endpoint).map(|(_, observed)| observed)
    }

    fn observed(&self, key: VirtualServerKey) -> ObservedVirtualServer {
        let Server { server, unknown, real_servers } = self.clone();
        ObservedVirtualServer { key, server, unknown, real_servers: real_servers.into_iter().collect() }
    }
}

/// A mask of IPv6 is a length from 1 to 128 (`ip_vs_add_service`).
fn check_prefix(key: &VirtualServerKey, server: &VirtualServer) -> Result<(), Errno> {
    let valid = key.family() == Family::V4 || (1..=128).contains(&server.prefix);
    if valid { Ok(()) } else { Err(Errno::EINVAL) }
}

/// What the kernel checks of a real server before it looks for it (`ip_vs_genl_set_cmd`, `ip_vs_add_dest`).
fn check_real(key: &VirtualServerKey, endpoint: &Endpoint, real: &RealServer) -> Result<(), Errno> {
    if Family::of(&endpoint.ip) != key.family() && real.forwarding != Forwarding::Tunnel {
        return Err(Errno::EINVAL);
    }
    if i32::try_from(real.weight).is_err() || real.lower_threshold > real.upper_threshold {
        return Err(Errno::ERANGE);
    }
    Ok(())
}

fn refusal(errno: Errno) -> Refusal {
    Refusal { code: errno as i32, text: None, offset: None, echo: Box::default() }
}

impl Table for SimIpvs {
    fn write(&mut self, requests: &[Request<'_>], refused: &mut dyn FnMut(usize, Refusal)) -> Result<(), NetlinkError> {
        self.converse("change virtual servers")?;
        for (index, request) in requests.iter().enumerate() {
            if let Err(errno) = self.execute(request) {
                refused(index, refusal(errno));
            }
        }
        Ok(())
    }
}

impl Ipvs for SimIpvs {
    fn observe(&mut self, family: Family, visit: &mut dyn FnMut(ObservedVirtualServer)) -> Result<(), ObserveError> {
        self.converse("list virtual servers").map_err(IpvsError::from)?;
        for (key, server) in self.servers.iter().filter(|(key, _)| key.family() == family) {
            visit(server.observed(*key));
        }
        Ok(())
    }

    fn real_servers(
        &mut self,
        key: &VirtualServerKey,
    ) -> Result<Option<BTreeMap<Endpoint, ObservedRealServer>>, ObserveError> {
        self.converse("list real servers").map_err(IpvsError::from)?;
        Ok(self.server(key).map(|server| server.real_servers))
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), Refused> {
        let order_seed = self.order_seed;
        apply::apply(self, changes, order_seed)
    }

    fn has_scheduler(&mut self, scheduler: &Scheduler) -> Result<bool, ObserveError> {
        Ok(probe::has_scheduler(self, scheduler).map_err(IpvsError::from)?)
    }

    fn set_timeouts(&mut self, tcp: u32, tcp_fin: u32, udp: u32) -> Result<(), ObserveError> {
        self.converse("set the timeouts of IPVS").map_err(IpvsError::from)?;
        for (timeout, seconds) in self.timeouts.iter_mut().zip([tcp, tcp_fin, udp]) {
            if seconds != 0 {
                *timeout = seconds;
            }
        }
        Ok(())
    }
}

impl<K: Ipvs> Ipvs for Arc<Mutex<K>> {
    fn observe(&mut self, family: Family, visit: &mut dyn FnMut(ObservedVirtualServer)) -> Result<(), ObserveError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).observe(family, visit)
    }

    fn real_servers(
        &mut self,
        key: &VirtualServerKey,
    ) -> Result<Option<BTreeMap<Endpoint, ObservedRealServer>>, ObserveError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).real_servers(key)
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), Refused> {
        self.lock().unwrap_or_else(PoisonError::into_inner).apply(changes)
    }

    fn has_scheduler(&mut self, scheduler: &Scheduler) -> Result<bool, ObserveError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).has_scheduler(scheduler)
    }

    fn set_timeouts(&mut self, tcp: u32, tcp_fin: u32, udp: u32) -> Result<(), ObserveError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).set_timeouts(tcp, tcp_fin, udp)
    }
}

#[cfg(test)]
mod tests;
