//! Links and addresses in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::kernel::link::{Changes, Device, Links, SERVICE_DEVICE};
use crate::kernel::{ApplyError, ApplyErrorKind, ObserveError};
use crate::net::Family;

/// A kernel that holds the service device in memory. To keep a hand on it while an engine owns it, share it: [`Links`]
/// is implemented for `Arc<Mutex<SimLinks>>` too.
#[derive(Clone, Debug)]
pub struct SimLinks {
    device: Device,
    others: BTreeSet<IpAddr>,
    outbound: BTreeSet<IpAddr>,
    sources: BTreeMap<IpAddr, IpAddr>,
    refused: BTreeMap<IpAddr, ApplyErrorKind>,
    broken: Option<Box<str>>,
    writes: usize,
}

impl Default for SimLinks {
    fn default() -> Self {
        SimLinks::new()
    }
}

impl SimLinks {
    /// A machine without the device and without addresses.
    pub fn new() -> Self {
        SimLinks {
            device: Device::Absent,
            others: BTreeSet::new(),
            outbound: BTreeSet::new(),
            sources: BTreeMap::new(),
            refused: BTreeMap::new(),
            broken: None,
            writes: 0,
        }
    }

    /// The device as it is now.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What another program does to the device.
    pub fn set_device(&mut self, device: Device) {
        self.device = device;
    }

    /// The addresses of all other devices.
    pub fn set_other_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.others = addresses.into_iter().collect();
    }

    /// The sources of what this machine sends far away, at most one of each family.
    pub fn set_outbound_sources(&mut self, sources: impl IntoIterator<Item = IpAddr>) {
        self.outbound = sources.into_iter().collect();
    }

    /// Which source is preferred for what this machine itself sends to an address of the device; without an entry it is
    /// the address itself.
    pub fn sources(&self) -> &BTreeMap<IpAddr, IpAddr> {
        &self.sources
    }

    /// From now on, refuses to add or remove this address, in this way; `None` = takes it again.
    pub fn refuse(&mut self, address: IpAddr, how: Option<ApplyErrorKind>) {
        match how {
            Some(kind) => self.refused.insert(address, kind),
            None => self.refused.remove(&address),
        };
    }

    /// From now on, everything fails with these words, and nothing is changed; `None` = works again.
    pub fn fail(&mut self, words: Option<&str>) {
        self.broken = words.map(Box::from);
    }

    /// How many requests were carried out that changed something: the device made or deleted, an address.
    pub fn writes(&self) -> usize {
        self.writes
    }

    fn check(&self) -> Result<(), ObserveError> {
        self.broken.as_ref().map_or(Ok(()), |words| Err(ObserveError { message: words.to_string() }))
    }

    fn check_to_apply(&self) -> Result<(), ApplyError> {
        let kind = ApplyErrorKind::Unavailable;
        self.check().map_err(|ObserveError { message }| ApplyError { kind, message, chain: None })
    }

    /// As the real driver does: the addresses of the device, made if anything is to be on it.
    fn addresses(&mut self, changes: &Changes) -> Result<Option<&mut BTreeSet<IpAddr>>, ApplyError> {
        if self.device == Device::Absent && (changes.create || !changes.add.is_empty()) {
            self.device = Device::Dummy { addresses: BTreeSet::new() };
            self.writes += 1;
        }
        match &mut self.device {
            Device::Absent => Ok(None),
            Device::Dummy { addresses } => Ok(Some(addresses)),
            Device::Other { kind } => Err(ApplyError {
                kind: ApplyErrorKind::Unavailable,
                message: format!("the name {SERVICE_DEVICE} belongs to a link of the kind {kind}"),
                chain: None,
            }),
        }
    }
}

impl Links for SimLinks {
    fn observe(&mut self) -> Result<Device, ObserveError> {
        self.check()?;
        Ok(self.device.clone())
    }

    fn other_addresses(&mut self, family: Family) -> Result<BTreeSet<IpAddr>, ObserveError> {
        self.check()?;
        Ok(self.others.iter().filter(|address| Family::of(address) == family).copied().collect())
    }

    fn outbound_source(&mut self, family: Family) -> Result<Option<IpAddr>, ObserveError> {
        self.check()?;
        Ok(self.outbound.iter().find(|address| Family::of(address) == family).copied())
    }

    fn prefer_sources(&mut self, sources: &BTreeMap<IpAddr, IpAddr>) -> Result<(), ApplyError> {
        self.check_to_apply()?;
        let Some(held) = self.addresses(&Changes::default())? else { return Ok(()) };
        let known: Vec<_> = sources.iter().filter(|(address, _)| held.contains(address)).collect();
        self.writes += known.len();
        self.sources.extend(known);
        Ok(())
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.check_to_apply()?;
        let refused = self.refused.clone();
        let Some(addresses) = self.addresses(changes)? else { return Ok(()) };
        let mut outcome = Ok(());
        let mut written = 0;
        let removed = changes.remove.iter().filter(|_| !changes.delete).map(|address| (address, false));
        for (address, add) in changes.add.iter().map(|address| (address, true)).chain(removed) {
            match refused.get(address) {
                None if add => written += usize::from(addresses.insert(*address)),
                None => written += usize::from(addresses.remove(address)),
                Some(kind) if outcome.is_ok() => {
                    let message = format!("cannot change {address} on {SERVICE_DEVICE}: the kernel refused");
                    outcome = Err(ApplyError { kind: *kind, message, chain: None });
                }
                Some(_) => {}
            }
        }
        self.writes += written;
        if changes.delete {
            self.device = Device::Absent;
            self.writes += 1;
        }
        // An address takes its route with it.
        match &self.device {
            Device::Dummy { addresses } => self.sources.retain(|address, _| addresses.contains(address)),
            Device::Absent | Device::Other { .. } => self.sources.clear(),
        }
        outcome
    }
}

impl<K: Links> Links for Arc<Mutex<K>> {
    fn observe(&mut self) -> Result<Device, ObserveError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).observe()
    }

    fn other_addresses(&mut self, family: Family) -> Result<BTreeSet<IpAddr>, ObserveError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).other_addresses(family)
    }

    fn outbound_source(&mut self, family: Family) -> Result<Option<IpAddr>, ObserveError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).outbound_source(family)
    }

    fn prefer_sources(&mut self, sources: &BTreeMap<IpAddr, IpAddr>) -> Result<(), ApplyError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).prefer_sources(sources)
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).apply(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> BTreeSet<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn changes_are_made_and_counted() {
        let mut links = SimLinks::new();
        links.set_other_addresses(ips(&["192.0.2.1", "2001:db8::1"]));
        assert_eq!(links.other_addresses(Family::V6).unwrap(), ips(&["2001:db8::1"]));
        links.apply(&Changes { create: true, add: ips(&["10.0.0.1", "fd00::1"]), ..Changes::default() }).unwrap();
        assert_eq!(links.observe().unwrap(), Device::Dummy { addresses: ips(&["10.0.0.1", "fd00::1"]) });
        // There already, gone already.
        let again = Changes { add: ips(&["10.0.0.1"]), remove: ips(&["10.0.0.9"]), ..Changes::default() };
        links.apply(&again).unwrap();
        assert_eq!(links.writes(), 3);
        links.apply(&Changes { delete: true, ..Changes::default() }).unwrap();
        assert_eq!((links.device(), links.writes()), (&Device::Absent, 4));
        links.apply(&Changes { remove: ips(&["10.0.0.1"]), delete: true, ..Changes::default() }).unwrap();
        assert_eq!(links.writes(), 4);
    }

    #[test]
    fn one_refusal_keeps_nothing_else_from_being_made() {
        let mut links = Arc::new(Mutex::new(SimLinks::new()));
        let refused: IpAddr = "10.0.0.1".parse().unwrap();
        links.lock().unwrap().refuse(refused, Some(ApplyErrorKind::Refused));
        let changes = Changes { create: true, add: ips(&["10.0.0.1", "10.0.0.2"]), ..Changes::default() };
        let error = links.apply(&changes).unwrap_err();
        assert!(error.kind == ApplyErrorKind::Refused && error.message.contains("10.0.0.1"), "{error}");
        assert_eq!(links.observe().unwrap(), Device::Dummy { addresses: ips(&["10.0.0.2"]) });
        links.lock().unwrap().refuse(refused, None);
        links.apply(&changes).unwrap();
        links.lock().unwrap().fail(Some("no netlink today"));
        assert_eq!(links.observe().unwrap_err().message, "no netlink today");
        assert_eq!(links.apply(&changes).unwrap_err().kind, ApplyErrorKind::Unavailable);
    }

    #[test]
    fn a_source_goes_with_its_address() {
        let mut links = SimLinks::new();
        links.set_outbound_sources(ips(&["192.0.2.1"]));
        let source = links.outbound_source(Family::V4).unwrap().unwrap();
        assert_eq!(links.outbound_source(Family::V6).unwrap(), None);
        let wanted: BTreeMap<_, _> =
            ips(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]).into_iter().map(|ip| (ip, source)).collect();
        links.prefer_sources(&wanted).unwrap();
        assert_eq!((links.sources().len(), links.writes()), (0, 0), "without the device");
        links.apply(&Changes { add: ips(&["10.0.0.1", "10.0.0.2"]), ..Changes::default() }).unwrap();
        links.prefer_sources(&wanted).unwrap();
        assert!(links.sources().keys().copied().eq(ips(&["10.0.0.1", "10.0.0.2"])));
        links.apply(&Changes { remove: ips(&["10.0.0.1"]), ..Changes::default() }).unwrap();
        assert!(links.sources().keys().copied().eq(ips(&["10.0.0.2"])));
        links.apply(&Changes { delete: true, ..Changes::default() }).unwrap();
        assert!(links.sources().is_empty());
    }

    #[test]
    fn another_kind_of_link_is_not_touched() {
        let mut links = SimLinks::new();
        let veth = Device::Other { kind: "veth".into() };
        links.set_device(veth.clone());
        for changes in [
            Changes { create: true, ..Changes::default() },
            Changes { delete: true, ..Changes::default() },
            Changes { remove: ips(&["10.0.0.1"]), ..Changes::default() },
        ] {
            assert!(links.apply(&changes).unwrap_err().message.contains("veth"));
        }
        assert_eq!((links.device(), links.writes()), (&veth, 0));
    }
}
