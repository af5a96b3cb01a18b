//! Keys and prefixes of the trees: nibbles of `kind, address, protocol, port`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::net::{Family, Protocol};

/// Where an entry sits: an address with protocol and port, or a node port (any local address).
///
/// The derived order is the order of the nibbles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// 0 = address, 1 = node port.
    kind: u8,
    /// The address in the highest bits; zero for a node port.
    address: u128,
    /// Index in [`Protocol::ALL`].
    protocol: u8,
    port: u16,
}

/// Nibbles before the address: the kind.
const KIND: usize = 1;

impl Key {
    pub fn address(ip: IpAddr, protocol: Protocol, port: u16) -> Key {
        let address = match ip {
            IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
            IpAddr::V6(ip) => u128::from(ip),
        };
        Key { kind: 0, address, protocol: protocol as u8, port }
    }

    pub fn node_port(protocol: Protocol, port: u16) -> Key {
        Key { kind: 1, address: 0, protocol: protocol as u8, port }
    }

    pub fn is_node_port(&self) -> bool {
        self.kind == 1
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, if it is not a node port.
    pub fn ip(&self, family: Family) -> Option<IpAddr> {
        (self.kind == 0).then(|| ip_of(self.address, family))
    }

    /// How many nibbles a key of the family has: kind, address, protocol, port.
    pub const fn len(family: Family) -> usize {
        KIND + address_nibbles(family) + 1 + 4
    }

    /// The nibble at a position below [`Key::len`].
    pub fn nibble(&self, i: usize, family: Family) -> u8 {
        let address = address_nibbles(family);
        if i < KIND {
            self.kind
        } else if i < KIND + address {
            (self.address >> (124 - 4 * (i - KIND))) as u8 & 15
        } else if i == KIND + address {
            self.protocol
        } else {
            (self.port >> (12 - 4 * (i - KIND - address - 1)).min(12)) as u8 & 15
        }
    }

    /// How many leading nibbles two keys share.
    pub fn common(&self, other: &Key, family: Family) -> usize {
        (0..Key::len(family)).find(|i| self.nibble(*i, family) != other.nibble(*i, family)).unwrap_or(Key::len(family))
    }
}

const fn address_nibbles(family: Family) -> usize {
    family.bits() as usize / 4
}

fn ip_of(address: u128, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(((address >> 96) as u32).into()),
        Family::V6 => IpAddr::V6(address.into()),
    }
}

/// The first `len` nibbles of a key; the rest of it is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    key: Key,
    len: u8,
}

impl Prefix {
    pub const ROOT: Prefix = Prefix { key: Key { kind: 0, address: 0, protocol: 0, port: 0 }, len: 0 };

    /// The first `len` nibbles of `key`.
    pub fn of(key: &Key, len: usize, family: Family) -> Prefix {
        let address = address_nibbles(family);
        let kept_address = len.saturating_sub(KIND).min(address);
        let kept_port = len.saturating_sub(KIND + address + 1).min(4);
        let mask128 = if kept_address == 0 { 0 } else { u128::MAX << (128 - 4 * kept_address) };
        let mask16 = if kept_port == 0 { 0 } else { u16::MAX << (16 - 4 * kept_port) };
        let key = Key {
            kind: if len >= KIND { key.kind } else { 0 },
            address: key.address & mask128,
            protocol: if len > KIND + address { key.protocol } else { 0 },
            port: key.port & mask16,
        };
        Prefix { key, len: len as u8 }
    }

    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// The key begins with this prefix.
    pub fn covers(&self, key: &Key, family: Family) -> bool {
        self.key.common(key, family) >= self.len()
    }

    /// The other prefix begins with this one.
    pub fn contains(&self, other: &Prefix, family: Family) -> bool {
        self.len <= other.len && self.covers(&other.key, family)
    }

    /// The nibble at a position below [`Prefix::len`].
    pub fn nibble(&self, i: usize, family: Family) -> u8 {
        self.key.nibble(i, family)
    }

    pub fn nibbles(&self, family: Family) -> Vec<u8> {
        (0..self.len()).map(|i| self.key.nibble(i, family)).collect()
    }

    pub fn is_node_port(&self) -> bool {
        self.len() >= KIND && self.key.kind == 1
    }

    /// The network that the prefix stands for, if it is one of addresses and says anything about them.
    pub fn network(&self, family: Family) -> Option<IpNet> {
        let nibbles = self.len().saturating_sub(KIND).min(address_nibbles(family));
        if nibbles == 0 || self.is_node_port() {
            return None;
        }
        IpNet::new(ip_of(self.key.address, family), nibbles as u8 * 4).ok()
    }

    /// The protocol, if the prefix reaches that far.
    pub fn protocol(&self, family: Family) -> Option<Protocol> {
        let reaches = self.len() > KIND + address_nibbles(family);
        reaches.then(|| Protocol::ALL.get(usize::from(self.key.protocol)).copied()).flatten()
    }

    /// First and last port, if the prefix says anything about ports.
    pub fn ports(&self, family: Family) -> Option<(u16, u16)> {
        let nibbles = self.len().saturating_sub(KIND + address_nibbles(family) + 1).min(4);
        (nibbles > 0).then(|| {
            let rest = if nibbles == 4 { 0 } else { u16::MAX >> (4 * nibbles) };
            (self.key.port, self.key.port | rest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_key(family: Family) -> impl Strategy<Value = Key> {
        (any::<u128>(), 0..3usize, any::<u16>(), any::<bool>()).prop_map(move |(address, protocol, port, node)| {
            let protocol = Protocol::ALL[protocol];
            if node { Key::node_port(protocol, port) } else { Key::address(ip_of(address, family), protocol, port) }
        })
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_nibbles(a in any_key(Family::V6), b in any_key(Family::V6), c in any_key(Family::V4), d in any_key(Family::V4)) {
            for (family, a, b) in [(Family::V6, a, b), (Family::V4, c, d)] {
                let nibbles = |key: &Key| Prefix::of(key, Key::len(family), family).nibbles(family);
                prop_assert_eq!(a.cmp(&b), nibbles(&a).cmp(&nibbles(&b)));
            }
        }

        #[test]
        fn a_prefix_covers_its_key(key in any_key(Family::V6), len in 0..=38usize, other in any_key(Family::V6)) {
            let prefix = Prefix::of(&key, len, Family::V6);
            prop_assert!(prefix.covers(&key, Family::V6));
            prop_assert_eq!(prefix.covers(&other, Family::V6), key.common(&other, Family::V6) >= len);
            prop_assert_eq!(prefix.nibbles(Family::V6).len(), len);
        }
    }

    #[test]
    fn a_prefix_says_what_it_matches() {
        let key = Key::address("10.96.7.9".parse().unwrap(), Protocol::Udp, 0x1234);
        let at = |len| Prefix::of(&key, len, Family::V4);
        assert_eq!(at(1).network(Family::V4), None);
        assert_eq!(at(4).network(Family::V4), Some("10.96.0.0/12".parse().unwrap()));
        assert_eq!(at(12).network(Family::V4), Some("10.96.7.9/32".parse().unwrap()));
        assert_eq!(at(9).protocol(Family::V4), None);
        assert_eq!(at(10).protocol(Family::V4), Some(Protocol::Udp));
        assert_eq!(at(11).ports(Family::V4), Some((0x1000, 0x1fff)));
        assert_eq!(at(14).ports(Family::V4), Some((0x1234, 0x1234)));
        let node = Prefix::of(&Key::node_port(Protocol::Tcp, 30000), 12, Family::V4);
        assert_eq!((node.network(Family::V4), node.is_node_port()), (None, true));
        assert_eq!(node.ports(Family::V4), Some((0x7500, 0x75ff)));
    }
}
