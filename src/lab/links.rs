//! Links, addresses and routes of one host, by rtnetlink.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use ipnet::IpNet;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage, State};
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{Host, LabError};

/// The index of the first link of [`Links::add_veth`]; more than any index that the kernel gives in a new namespace.
const FIRST: u32 = 1000;

/// How long links may take to come up.
const READY: Duration = Duration::from_secs(5);

/// Where a route leads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Via {
    Gateway(IpAddr),
    /// On this link, without a gateway.
    Link(u32),
    /// Nowhere: the sender is told at once.
    Unreachable,
}

/// A netlink socket in a host's namespace.
pub(super) struct Links<'a> {
    host: &'a str,
    handle: Handle,
}

/// Opens a netlink socket on the host and runs `work` with it.
pub(super) fn configure<R: Send>(
    host: &Host,
    work: impl AsyncFnOnce(&Links<'_>) -> Result<R, LabError> + Send,
) -> Result<R, LabError> {
    let name = host.name();
    host.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LabError::io(name, "start a runtime"))?;
        runtime.block_on(async {
            let (connection, handle, _) =
                rtnetlink::new_connection().map_err(LabError::io(name, "open a netlink socket"))?;
            let connection = tokio::spawn(connection);
            let result = work(&Links { host: name, handle }).await;
            connection.abort();
            result
        })
    })?
}

impl Host {
    /// Gives the host another address. Its links are `lo`, `eth0` and, on a node, `veth1` and so on or `cbr0`.
    pub fn add_address(&self, link: &str, address: IpNet) -> Result<(), LabError> {
        configure(self, async |links| links.add_address(links.index(link)?, address).await)
    }
}

impl Links<'_> {
    /// The index of a link.
    pub(super) fn index(&self, link: &str) -> Result<u32, LabError> {
        if_nametoindex(link).map_err(|errno| LabError::io(self.host, format!("find the link {link}"))(errno.into()))
    }

    /// Makes a pair of links: `name` here, `peer` on the other host. Returns the index of the one here.
    ///
    /// The one here is up; the peer cannot be before the pair is whole, so the other host sets it up. `number` must be
    /// another one for each pair: it makes the index differ from the peer's. If the two indices, which are of different
    /// namespaces, happen to be the same, the kernel takes up to a second to see that the other end is up.
    pub(super) async fn add_veth(&self, number: u32, name: &str, peer: &str, other: &Host) -> Result<u32, LabError> {
        let mut far = LinkUnspec::new_with_name(peer).build();
        far.attributes.push(LinkAttribute::NetNsFd(other.namespace().as_raw_fd()));
        let index = FIRST + number;
        let pair = LinkVeth::new(name, peer).index(index).set_info_data(InfoData::Veth(InfoVeth::Peer(far))).up();
        let action = || format!("add the link {name}, with {peer} on {}", other.name());
        self.handle.link().add(pair.build()).execute().await.map_err(|e| self.refused(action(), e))?;
        Ok(index)
    }

    /// Makes a bridge that is up, and returns its index.
    pub(super) async fn add_bridge(&self, name: &str) -> Result<u32, LabError> {
        // Without snooping, neighbour discovery reaches everyone from the first packet on.
        let bridge = LinkBridge::new(name).mcast_snooping(false).build();
        self.handle
            .link()
            .add(bridge)
            .execute()
            .await
            .map_err(|e| self.refused(format!("add the bridge {name}"), e))?;
        self.index(name)
    }

    /// Makes a link a port of a bridge. In hairpin mode it may send back what came in by it.
    pub(super) async fn add_port(&self, link: u32, bridge: u32, hairpin: bool) -> Result<(), LabError> {
        let port = LinkUnspec::new_with_index(link).controller(bridge).build();
        let action = |what: &str| format!("{what} of link {link}");
        self.handle.link().set(port).execute().await.map_err(|e| self.refused(action("set the bridge"), e))?;
        if hairpin {
            let mode = LinkBridgePort::new(link).hairpin(true).build();
            let set = self.handle.link().set_port(mode).execute().await;
            set.map_err(|e| self.refused(action("set the hairpin mode"), e))?;
        }
        Ok(())
    }

    /// Sets a link up, and returns its index.
    pub(super) async fn set_up(&self, link: &str) -> Result<u32, LabError> {
        let index = self.index(link)?;
        let message = LinkUnspec::new_with_index(index).up().build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|e| self.refused(format!("set {link} up"), e))?;
        Ok(index)
    }

    /// Waits until the kernel has seen that the other ends of all pairs are up, which it does by a work queue. Packets
    /// that are sent before are lost.
    pub(super) async fn wait_until_ready(&self) -> Result<(), LabError> {
        let patience = Instant::now() + READY;
        loop {
            let links: Vec<LinkMessage> = self
                .handle
                .link()
                .get()
                .execute()
                .try_collect()
                .await
                .map_err(|e| self.refused("list links".to_owned(), e))?;
            if links.iter().all(is_ready) {
                return Ok(());
            }
            if Instant::now() > patience {
                let late = io::Error::from(io::ErrorKind::TimedOut);
                return Err(LabError::io(self.host, "wait for its links to come up")(late));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Adds an address, without waiting whether another host has it.
    pub(super) async fn add_address(&self, link: u32, address: IpNet) -> Result<(), LabError> {
        let mut request = self.handle.address().add(link, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await.map_err(|e| self.refused(format!("add the address {address}"), e))
    }

    pub(super) async fn add_route(&self, net: IpNet, via: Via) -> Result<(), LabError> {
        let action = || format!("route {net} via {via:?}");
        let invalid = |reason: String| LabError::Route { host: self.host.to_owned(), action: action(), reason };
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .map_err(|e| invalid(e.to_string()))?;
        let route = match via {
            Via::Gateway(gateway) => route.gateway(gateway).map_err(|e| invalid(e.to_string()))?,
            Via::Link(link) if net.addr().is_ipv4() => route.output_interface(link).scope(RouteScope::Link),
            Via::Link(link) => route.output_interface(link),
            Via::Unreachable => route.kind(RouteType::Unreachable),
        };
        self.handle.route().add(route.build()).execute().await.map_err(|e| self.refused(action(), e))
    }

    fn refused(&self, action: String, source: rtnetlink::Error) -> LabError {
        LabError::Netlink { host: self.host.to_owned(), action, source }
    }
}

/// Bridges are ready with their ports; what the kernel tells of them comes later.
fn is_ready(link: &LinkMessage) -> bool {
    let is_pair = |info: &LinkInfo| *info == LinkInfo::Kind(InfoKind::Veth);
    let mut infos = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    !infos.any(|infos| infos.iter().any(is_pair)) || link.attributes.contains(&LinkAttribute::OperState(State::Up))
}
