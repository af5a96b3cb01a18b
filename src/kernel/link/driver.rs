//! The driver: the device and its addresses by rtnetlink.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use nix::errno::Errno;

use super::wire::{self, DUMMY, Link, LinkAddress};
use super::{Changes, Device, Links, SERVICE_DEVICE};
use crate::kernel::netlink::{Answer, Batch, NetlinkError, Protocol, Refusal, Socket};
use crate::kernel::{ApplyError, ApplyErrorKind, ObserveError, Traffic};
use crate::net::Family;

/// Requests in one send. Their answers wait in the socket's receive buffer, where each takes about 800 bytes of what
/// even an unprivileged process may have (416 KiB, `net.core.rmem_max` twice).
const AT_ONCE: usize = 256;

/// How often a list that changed while it was read is read again.
const TRIES: usize = 10;

/// The real kernel, in the network namespace of the thread that opens it.
pub struct LinkDriver {
    socket: Socket,
    device: Box<str>,
}

/// What is done to one address.
#[derive(Clone, Copy)]
enum Edit {
    Add,
    Remove,
    /// What the host itself sends there has this source.
    Source(IpAddr),
    /// The route with that source goes.
    NoSource,
    /// The kernel's own route goes.
    NoKernelsRoute,
}

impl LinkDriver {
    /// Opens it, for [`SERVICE_DEVICE`].
    ///
    /// # Errors
    /// No netlink socket is to be had.
    pub fn open() -> Result<Self, ObserveError> {
        LinkDriver::open_for(SERVICE_DEVICE)
    }

    /// Opens it for a device of another name, of at most 15 bytes.
    ///
    /// # Errors
    /// As for [`LinkDriver::open`].
    pub fn open_for(device: &str) -> Result<Self, ObserveError> {
        let socket = Socket::open(Protocol::Route).map_err(cannot_observe)?;
        Ok(LinkDriver { socket, device: device.into() })
    }

    /// Counts what is sent from now on there.
    pub fn count(&mut self, traffic: Traffic) {
        self.socket.count(traffic);
    }

    /// The link that has the name.
    fn link(&mut self) -> Result<Option<Link>, NetlinkError> {
        let mut batch = Batch::new("look for a link");
        wire::get_link(&mut batch, &self.device);
        match self.socket.ask(&mut batch, wire::read_link)? {
            Ok(found) => Ok(found),
            Err(refusal) if refusal.errno() == Errno::ENODEV => Ok(None),
            Err(refusal) => Err(NetlinkError::Refused { asked: batch.asked(), refusal }),
        }
    }

    /// Addresses of all links, without loopback addresses and link-local ones of IPv6.
    fn addresses(&mut self, family: Option<Family>) -> Result<Vec<LinkAddress>, ObserveError> {
        for _ in 0..TRIES {
            let mut batch = Batch::new("list addresses");
            wire::list_addresses(&mut batch, family);
            let mut addresses = Vec::new();
            let mut dump = self.socket.dump(&mut batch).map_err(cannot_observe)?;
            while let Some(message) = dump.next_message().map_err(cannot_observe)? {
                addresses.extend(wire::read_address(&message).filter(|found| is_reachable(&found.address)));
            }
            if !dump.interrupted() {
                return Ok(addresses);
            }
        }
        Err(ObserveError {
            message: format!("cannot list addresses: they changed while the list was read, {TRIES} times in a row"),
        })
    }

    /// The device to write to, made if need be. `None`: it is not there, and nothing is to be on it.
    fn device_for(&mut self, changes: &Changes) -> Result<Option<u32>, ApplyError> {
        match self.link().map_err(cannot_apply)? {
            Some(link) if link.kind.as_deref() == Some(DUMMY) => return Ok(Some(link.index)),
            Some(link) => return Err(self.taken(link.kind)),
            None if !changes.create && changes.add.is_empty() => return Ok(None),
            None => {}
        }
        self.create()?;
        match self.link().map_err(cannot_apply)? {
            Some(link) => Ok(Some(link.index)),
            None => Err(ApplyError {
                kind: ApplyErrorKind::Busy,
                message: format!("the device {} was made, and somebody deleted it at once", self.device),
                chain: None,
            }),
        }
    }

    fn create(&mut self) -> Result<(), ApplyError> {
        let mut batch = Batch::new("make a dummy device");
        wire::new_dummy(&mut batch, &self.device);
        match self.first_refusal(&mut batch)? {
            None => {
                tracing::info!(device = %self.device, "made the device for service addresses");
                Ok(())
            }
            // Somebody was faster. The next look tells what it is.
            Some((_, refusal)) if refusal.errno() == Errno::EEXIST => Ok(()),
            Some((_, refusal)) => {
                let remedy = match refusal.errno() {
                    Errno::EOPNOTSUPP => "; the kernel lacks dummy devices: load the module dummy (CONFIG_DUMMY)",
                    _ => "",
                };
                Err(refused(&refusal, format_args!("make the dummy device {}", self.device), remedy))
            }
        }
    }

    /// Makes these edits to addresses, many at a time. All are tried; the first failure is told.
    fn edit(&mut self, index: u32, edits: impl IntoIterator<Item = (IpAddr, Edit)>) -> Result<(), ApplyError> {
        let mut outcome = Ok(());
        let mut batch = Batch::new("change addresses");
        let mut rest = edits.into_iter();
        loop {
            let asked: Vec<(IpAddr, Edit)> = rest.by_ref().take(AT_ONCE).collect();
            if asked.is_empty() {
                return outcome;
            }
            batch.clear();
            for (address, edit) in &asked {
                edit.write(&mut batch, index, *address);
            }
            let counts = |position: usize, refusal: &Refusal| {
                asked.get(position).is_some_and(|(_, edit)| !edit.is_done_already(refusal.errno()))
            };
            if let Some((position, refusal)) = self.refusals(&mut batch, counts)?
                && let Some((address, edit)) = asked.get(position)
                && outcome.is_ok()
            {
                outcome = Err(self.explain(*edit, *address, &refusal));
            }
        }
    }

    /// Takes addresses from the device.
    fn remove(&mut self, index: u32, addresses: &BTreeSet<IpAddr>) -> Result<(), ApplyError> {
        // The kernel deletes only its own route with an address, and ours would keep it local. That goes first: as long
        // as the address is there, it is known that something is left.
        self.edit(index, all(addresses, Edit::NoSource))?;
        self.edit(index, all(addresses, Edit::Remove))
    }

    fn delete(&mut self, index: u32) -> Result<(), ApplyError> {
        // The device takes its addresses and routes with it. Ours of IPv6 go by another one.
        let held = self.addresses(Some(Family::V6)).map_err(|ObserveError { message }| ApplyError {
            kind: ApplyErrorKind::Busy,
            message,
            chain: None,
        })?;
        let held = held.iter().filter(|found| found.index == index).map(|found| &found.address);
        self.edit(index, all(held.filter(|address| address.is_ipv6()), Edit::NoSource))?;
        let mut batch = Batch::new("delete a device");
        wire::delete_link(&mut batch, index);
        match self.refusals(&mut batch, |_, refusal| refusal.errno() != Errno::ENODEV)? {
            None => {
                tracing::info!(device = %self.device, "deleted the device for service addresses");
                Ok(())
            }
            Some((_, refusal)) => Err(refused(&refusal, format_args!("delete the device {}", self.device), "")),
        }
    }

    fn first_refusal(&mut self, batch: &mut Batch) -> Result<Option<(usize, Refusal)>, ApplyError> {
        self.refusals(batch, |_, _| true)
    }

    /// Sends requests; gives the first refusal that counts, with the number of the request.
    fn refusals(
        &mut self,
        batch: &mut Batch,
        counts: impl Fn(usize, &Refusal) -> bool,
    ) -> Result<Option<(usize, Refusal)>, ApplyError> {
        let mut first = None;
        let asked = self.socket.transact(batch, |position, answer| {
            if let Answer::Refused(refusal) = answer
                && first.is_none()
                && counts(position, &refusal)
            {
                first = Some((position, refusal));
            }
        });
        asked.map_err(cannot_apply)?;
        Ok(first)
    }

    fn explain(&self, edit: Edit, address: IpAddr, refusal: &Refusal) -> ApplyError {
        match edit {
            // The kernel says EACCES where IPv6 is off for a device, and EPERM to who may not.
            Edit::Add if refusal.errno() == Errno::EACCES => ApplyError {
                kind: ApplyErrorKind::Unavailable,
                message: format!(
                    "cannot add {address} to {device}: IPv6 is off there: set net.ipv6.conf.{device}.disable_ipv6=0",
                    device = self.device
                ),
                chain: None,
            },
            Edit::Add => refused(refusal, format_args!("add {address} to {}", self.device), ""),
            Edit::Remove => refused(refusal, format_args!("remove {address} from {}", self.device), ""),
            Edit::Source(source) => {
                let remedy = match (refusal.errno(), source.is_ipv6()) {
                    (Errno::ENETDOWN, true) => "; set the device lo up",
                    _ => "",
                };
                refused(refusal, format_args!("make {source} the host's own source for {address}"), remedy)
            }
            Edit::NoSource | Edit::NoKernelsRoute => {
                refused(refusal, format_args!("delete the local route to {address}"), "")
            }
        }
    }

    fn taken(&self, kind: Option<Box<str>>) -> ApplyError {
        ApplyError {
            kind: ApplyErrorKind::Unavailable,
            message: format!(
                "the name {device} belongs to a link of the kind {kind}, and service addresses need a dummy device: \
                 rename or delete that link (ip link delete {device})",
                device = self.device,
                kind = kind.as_deref().unwrap_or(UNKNOWN),
            ),
            chain: None,
        }
    }
}

/// The kind of a link that has none, such as a network card.
const UNKNOWN: &str = "unknown";

impl Links for LinkDriver {
    fn observe(&mut self) -> Result<Device, ObserveError> {
        let Some(link) = self.link().map_err(cannot_observe)? else { return Ok(Device::Absent) };
        if link.kind.as_deref() != Some(DUMMY) {
            return Ok(Device::Other { kind: link.kind.unwrap_or_else(|| UNKNOWN.into()) });
        }
        let all = self.addresses(None)?;
        let addresses = all.iter().filter(|found| found.index == link.index).map(|found| found.address).collect();
        Ok(Device::Dummy { addresses })
    }

    fn other_addresses(&mut self, family: Family) -> Result<BTreeSet<IpAddr>, ObserveError> {
        let own = self.link().map_err(cannot_observe)?.map(|link| link.index);
        let all = self.addresses(Some(family))?;
        let others = all.into_iter().filter(|found| Some(found.index) != own).map(|found| found.address);
        // A kernel without the family answers for all others.
        Ok(others.filter(|address| Family::of(address) == family).collect())
    }

    fn outbound_source(&mut self, family: Family) -> Result<Option<IpAddr>, ObserveError> {
        let mut batch = Batch::new("ask for the way out");
        wire::get_route_out(&mut batch, family);
        let source = match self.socket.ask(&mut batch, wire::read_source).map_err(cannot_observe)? {
            Ok(Some(source)) => source,
            // There is no way out, or no such family.
            Ok(None) | Err(_) => return Ok(None),
        };
        Ok(self.other_addresses(family)?.contains(&source).then_some(source))
    }

    fn prefer_sources(&mut self, sources: &BTreeMap<IpAddr, IpAddr>) -> Result<(), ApplyError> {
        let Some(index) = self.device_for(&Changes::default())? else { return Ok(()) };
        self.edit(index, sources.iter().map(|(address, source)| (*address, Edit::Source(*source))))?;
        self.edit(index, all(sources.keys().filter(|address| address.is_ipv6()), Edit::NoKernelsRoute))
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        if changes.is_empty() {
            return Ok(());
        }
        let Some(index) = self.device_for(changes)? else { return Ok(()) };
        let added = self.edit(index, all(&changes.add, Edit::Add));
        let removed = if changes.delete { self.delete(index) } else { self.remove(index, &changes.remove) };
        added.and(removed)
    }
}

/// The same edit to all of these addresses.
fn all<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>, edit: Edit) -> impl Iterator<Item = (IpAddr, Edit)> {
    addresses.into_iter().map(move |address| (*address, edit))
}

impl Edit {
    fn write(self, batch: &mut Batch, index: u32, address: IpAddr) {
        match self {
            Edit::Add => wire::new_address(batch, index, address),
            Edit::Remove => wire::delete_address(batch, index, address),
            Edit::Source(source) => wire::put_source(batch, index, address, source),
            Edit::NoSource => wire::delete_source(batch, address),
            Edit::NoKernelsRoute => wire::delete_kernels_route(batch, index, address),
        }
    }

    /// Whether a refusal says that all is as it is to be.
    fn is_done_already(self, errno: Errno) -> bool {
        match self {
            Edit::Add => errno == Errno::EEXIST,
            Edit::Remove => errno == Errno::EADDRNOTAVAIL,
            Edit::Source(_) => false,
            Edit::NoSource | Edit::NoKernelsRoute => errno == Errno::ESRCH,
        }
    }
}

/// Not one that is of this machine only: loopback, or link-local of IPv6 (contract 4.2).
fn is_reachable(address: &IpAddr) -> bool {
    let is_link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    !address.is_loopback() && !is_link_local
}

fn cannot_observe(error: NetlinkError) -> ObserveError {
    ObserveError { message: error.to_string() }
}

fn cannot_apply(error: NetlinkError) -> ApplyError {
    let kind = error.errno().map_or(ApplyErrorKind::Busy, kind);
    ApplyError { kind, message: error.to_string(), chain: None }
}

fn refused(refusal: &Refusal, action: fmt::Arguments<'_>, remedy: &str) -> ApplyError {
    let message = format!("cannot {action}: the kernel refused: {refusal}{remedy}");
    ApplyError { kind: kind(refusal.errno()), message, chain: None }
}

fn kind(errno: Errno) -> ApplyErrorKind {
    match errno {
        Errno::EPERM | Errno::EACCES | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => {
            ApplyErrorKind::Unavailable
        }
        // The device went, or the name was given to another, between two requests; or the kernel is short of something.
        Errno::ENODEV | Errno::EBUSY | Errno::EAGAIN | Errno::ENOMEM | Errno::ENOBUFS => ApplyErrorKind::Busy,
        _ => ApplyErrorKind::Refused,
    }
}
