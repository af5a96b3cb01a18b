//! What tools saved of a node's objects beside rules.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::cmd::Failure;
use crate::kernel::ipset::{self, Entry, ObservedSet};
use crate::kernel::ipvs::{self, ObservedVirtualServer, RealServer, RealServerChange};
use crate::kernel::link::{Device, SERVICE_DEVICE};
use crate::net::{Family, Protocol};
use crate::plan::ipvs::{Observed, Set, is_node_address, is_our_set};

/// A file, read: what it comes from may be a pipe, which is there once.
pub struct SavedFile {
    path: PathBuf,
    pub text: String,
}

impl SavedFile {
    /// `expected` says what the flag takes.
    ///
    /// # Errors
    /// It cannot be read as text.
    pub fn open(path: &Path, flag: &str, expected: &str) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(format!("{flag} {}: cannot be read: {error}; give {expected}", path.display()))
        })?;
        Ok(SavedFile { path: path.to_owned(), text })
    }

    /// Names the file.
    pub fn failure(&self, error: impl std::fmt::Display) -> Failure {
        Failure::new(format!("{}: {error}", self.path.display()))
    }
}

/// Files about sets, virtual servers and the service device. What is not given is taken to be empty, but for addresses:
/// without a file they are those that the sets say.
#[derive(Default)]
pub struct SavedObjects {
    /// `ipset save`
    pub sets: Option<SavedFile>,
    /// `ipvsadm -Sn`
    pub servers: Option<SavedFile>,
    /// `ip -o address show dev kube-ipvs0`
    pub addresses: Option<SavedFile>,
}

impl SavedObjects {
    /// What the files say of these families.
    ///
    /// # Errors
    /// The file and the line that cannot be read.
    pub fn observe(&self, families: &[Family]) -> Result<Observed, Failure> {
        let sets = read(&self.sets, ipset::text::parse)?.unwrap_or_default();
        let servers = read(&self.servers, ipvs::text::parse)?.unwrap_or_default();
        let sets: Vec<_> = sets.into_iter().filter(|set| is_compared(set, families)).collect();
        let device = match read(&self.addresses, addresses)? {
            Some(addresses) => device_with(addresses),
            None => device_of(&sets),
        };
        let servers = servers.into_iter().filter(|server| families.contains(&server.key.family()));
        Ok(Observed { sets, device, servers: servers.map(with_connections).collect() })
    }
}

fn read<T, E: std::fmt::Display>(
    file: &Option<SavedFile>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    let Some(file) = file else { return Ok(None) };
    parse(&file.text).map(Some).map_err(|error| file.failure(error))
}

fn is_compared(set: &ObservedSet, families: &[Family]) -> bool {
    let family = set.spec.as_ref().map_or_else(|_| set.name.family(), |spec| spec.family);
    is_our_set(set.name.as_str()) && families.contains(&family)
}

/// The device as the sets of addresses on it say.
fn device_of(sets: &[ObservedSet]) -> Device {
    let names = Family::ALL.map(|family| Set::IpvsIps.name(family));
    let mut sets = sets.iter().filter(|set| names.contains(&set.name)).peekable();
    if sets.peek().is_none() {
        return Device::Absent;
    }
    let address = |entry: &Entry| if let Entry::Ip(ip) = entry { Some(*ip) } else { None };
    Device::Dummy { addresses: sets.flat_map(|set| set.entries.keys().filter_map(address)).collect() }
}

/// A device without addresses and none at all are the same text.
fn device_with(addresses: BTreeSet<IpAddr>) -> Device {
    if addresses.is_empty() { Device::Absent } else { Device::Dummy { addresses } }
}

/// A line that does not say what it should.
#[derive(Debug, thiserror::Error)]
#[error("line {line} is not from `ip -o address`: {text:?}")]
struct AddressError {
    line: usize,
    text: String,
}

/// The addresses of the service device, of all devices in the text: `4: kube-ipvs0    inet 10.96.0.1/32 scope global …`.
fn addresses(text: &str) -> Result<BTreeSet<IpAddr>, AddressError> {
    let mut found = BTreeSet::new();
    for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = match words.as_slice() {
            [_, device, "inet" | "inet6", address, ..] => address_of(address).map(|ip| (*device, ip)),
            _ => None,
        };
        let (device, ip) = address.ok_or_else(|| AddressError { line: number, text: line.to_owned() })?;
        if device == SERVICE_DEVICE && is_node_address(&ip) {
            found.insert(ip);
        }
    }
    Ok(found)
}

fn address_of(text: &str) -> Option<IpAddr> {
    text.parse::<IpNet>().map(|net| net.addr()).or_else(|_| text.parse()).ok()
}

/// A saved table says nothing of connections. One that is given no new ones is waited for.
fn with_connections(mut server: ObservedVirtualServer) -> ObservedVirtualServer {
    if server.key.protocol == Protocol::Tcp {
        for real in server.real_servers.values_mut().filter(|real| real.server.weight == 0) {
            real.active = 1;
        }
    }
    server
}

/// Takes out what a saved table cannot tell: `ipvsadm -S` leaves thresholds out, and with them the deadline of a real
/// server that drains.
pub fn without_deadlines(changes: &mut ipvs::Changes) {
    changes.servers.retain(|_, change| {
        let before = change.real_servers.len();
        change.real_servers.retain(|_, real| !is_deadline(real));
        change.real_servers.len() == before || !change.is_nothing()
    });
}

fn is_deadline(change: &RealServerChange) -> bool {
    let RealServerChange { before: Some(before), after: Some(after) } = change else { return false };
    let is_unsaid = before.weight == 0 && before.upper_threshold == 0 && after.upper_threshold != 0;
    is_unsaid && *after == RealServer { upper_threshold: after.upper_threshold, ..*before }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ipset::SetName;
    use crate::kernel::ipvs::{VirtualServerChange, VirtualServerKey};
    use crate::net::Endpoint;

    #[test]
    fn addresses_of_the_device_alone_that_services_can_have() {
        let text = "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever\n\
                    2: eth0    inet 192.0.2.1/24 brd 192.0.2.255 scope global eth0\\       valid_lft forever\n\
                    \n\
                    4: kube-ipvs0    inet 10.96.0.1/32 scope global kube-ipvs0\\       valid_lft forever\n\
                    4: kube-ipvs0    inet 10.97.0.1 peer 10.97.0.2/32 scope global kube-ipvs0\\       valid_lft forever\n\
                    4: kube-ipvs0    inet6 fd00:10:96::1/128 scope global \\       valid_lft forever\n\
                    4: kube-ipvs0    inet6 fe80::1/64 scope link \\       valid_lft forever\n";
        let expected = ["10.96.0.1", "10.97.0.1", "fd00:10:96::1"].map(|ip| ip.parse().unwrap());
        assert_eq!(addresses(text).unwrap(), BTreeSet::from(expected));
        let error = addresses("4: kube-ipvs0    inet 10.96.0.1/32\n4: kube-ipvs0 inet here\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2 is not from `ip -o address`: \"4: kube-ipvs0 inet here\"");
    }

    #[test]
    fn without_a_file_of_addresses_the_sets_say_what_they_are() {
        let sets =
            ipset::text::parse("create KUBE-IPVS-IPS hash:ip family inet\nadd KUBE-IPVS-IPS 10.96.0.1\n").unwrap();
        assert_eq!(device_of(&sets), Device::Dummy { addresses: BTreeSet::from(["10.96.0.1".parse().unwrap()]) });
        assert_eq!(device_of(&[]), Device::Absent);
        let other = ObservedSet { name: SetName::new("KUBE-CLUSTER-IP"), ..sets[0].clone() };
        assert_eq!(device_of(&[other]), Device::Absent, "no set of addresses, no device");
    }

    /// A change of one real server, and whether it is left.
    #[test]
    fn only_a_deadline_that_was_not_saved_is_taken_out() {
        let key = VirtualServerKey::new(Protocol::Tcp, "10.96.0.1".parse().unwrap(), 80);
        let drained = |upper_threshold| RealServer { upper_threshold, ..RealServer::active(0) };
        for (before, after, is_left) in [
            (drained(0), Some(drained(1_800_000_000)), false),
            (drained(1_800_000_000), Some(drained(1_700_000_000)), true),
            (drained(0), Some(RealServer::active(1)), true),
            (drained(0), None, true),
            (RealServer::active(1), Some(drained(1_800_000_000)), true),
        ] {
            let real = RealServerChange { before: Some(before), after };
            let endpoint = Endpoint::new("10.244.1.1".parse().unwrap(), 80);
            let change = VirtualServerChange { real_servers: [(endpoint, real)].into(), ..Default::default() };
            let mut changes = ipvs::Changes { servers: [(key, change)].into() };
            without_deadlines(&mut changes);
            assert_eq!(!changes.is_empty(), is_left, "{before:?} {after:?}");
        }
    }
}
