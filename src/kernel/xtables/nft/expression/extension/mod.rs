//! The structures of the x_tables extensions that a `match` or `target` expression carries, both ways.
//!
//! A structure is in the machine's byte order where nothing else is said, and its length is rounded up to 8 bytes
//! (`XT_ALIGN`). Each is written in the revision that iptables 1.8.2 to 1.8.13 write: `iptables -C` compares it.

mod matches;
mod targets;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::kernel::xtables::nft::sets::SetIndexes;
use crate::kernel::xtables::{Match, Target};
use crate::net::Family;
pub use matches::match_extension;
pub use targets::target_extension;

/// The longest structure, that of `sctp`.
const LONGEST: usize = 296;

/// The match that an extension is, if it says nothing but that.
pub fn read_match(family: Family, name: &str, revision: u32, info: &[u8], sets: &SetIndexes) -> Option<Match> {
    let found = matches::read(name, Info(info), sets)?;
    match_extension(family, &found, sets).agrees(name, revision, info).then_some(found)
}

/// The target that an extension is, if it says nothing but that.
pub fn read_target(family: Family, name: &str, revision: u32, info: &[u8]) -> Option<Target> {
    let found = targets::read(family, name, Info(info))?;
    target_extension(family, &found)?.agrees(name, revision, info).then_some(found)
}

/// The index of the set that a match looks in, of whatever revision: it is the first field of each.
pub fn set_index(name: &str, info: &[u8]) -> Option<u16> {
    if name == "set" { Info(info).u16(0) } else { None }
}

/// An extension as it is written.
pub struct Extension {
    pub name: &'static str,
    pub revision: u32,
    /// An older revision with the same structure.
    older_revision: Option<u32>,
    bytes: [u8; LONGEST],
    length: usize,
    /// How many bytes say something. What is behind them is for the kernel's own use, or not used at all.
    significant: usize,
    /// What is behind the NUL of a text. The tools leave the rest of a longer one there.
    behind_text: Range<usize>,
}

impl Extension {
    /// All zeros. `length` is at most [`LONGEST`].
    const fn new(name: &'static str, revision: u32, length: usize) -> Self {
        Extension {
            name,
            revision,
            older_revision: None,
            bytes: [0; LONGEST],
            length,
            significant: length,
            behind_text: 0..0,
        }
    }

    /// The structure.
    pub fn info(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Whether an extension that was read means the same.
    fn agrees(&self, name: &str, revision: u32, info: &[u8]) -> bool {
        let Range { start, end } = self.behind_text;
        let same = |part: Range<usize>| self.bytes.get(part.clone()) == info.get(part);
        self.name == name
            && (self.revision == revision || self.older_revision == Some(revision))
            && self.length == info.len()
            && same(0..start)
            && same(end..self.significant)
    }

    /// Puts bytes into the structure, as many as fit.
    fn set(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        let place = self.bytes.get_mut(at..self.length).unwrap_or_default();
        for (place, byte) in place.iter_mut().zip(bytes) {
            *place = *byte;
        }
        self
    }

    /// Puts the structure's only text into a field of `size` bytes; the last one stays a NUL.
    fn set_text(&mut self, at: usize, size: usize, text: &str) -> &mut Self {
        let text = text.as_bytes();
        let text = text.get(..size - 1).unwrap_or(text);
        self.behind_text = at + text.len() + 1..at + size;
        self.set(at, text)
    }

    fn set_u8(&mut self, at: usize, value: u8) -> &mut Self {
        self.set(at, &[value])
    }

    fn set_u16(&mut self, at: usize, value: u16) -> &mut Self {
        self.set(at, &value.to_ne_bytes())
    }

    fn set_u16_be(&mut self, at: usize, value: u16) -> &mut Self {
        self.set(at, &value.to_be_bytes())
    }

    fn set_u32(&mut self, at: usize, value: u32) -> &mut Self {
        self.set(at, &value.to_ne_bytes())
    }

    /// Puts an address into a field of 16 bytes (`union nf_inet_addr`), of which IPv4 uses the first four.
    fn set_ip(&mut self, at: usize, ip: IpAddr) -> &mut Self {
        match ip {
            IpAddr::V4(ip) => self.set(at, &ip.octets()),
            IpAddr::V6(ip) => self.set(at, &ip.octets()),
        }
    }
}

/// A structure to read. `None` is where it ends too early.
#[derive(Clone, Copy)]
struct Info<'a>(&'a [u8]);

impl<'a> Info<'a> {
    fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_ne_bytes)
    }

    fn u16_be(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_ne_bytes)
    }

    fn ip(self, family: Family, at: usize) -> Option<IpAddr> {
        match family {
            Family::V4 => self.array::<4>(at).map(Ipv4Addr::from).map(IpAddr::V4),
            Family::V6 => self.array::<16>(at).map(Ipv6Addr::from).map(IpAddr::V6),
        }
    }

    /// The text in a field, up to its NUL. `None` if it is not UTF-8.
    fn text(self, at: usize, size: usize) -> Option<&'a str> {
        let field = self.0.get(at..at + size)?;
        std::str::from_utf8(field.split(|byte| *byte == 0).next()?).ok()
    }

    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }
}
