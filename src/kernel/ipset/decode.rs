//! Answers.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::wire::{NOMATCH, WITH_COMMENT, WITH_FORCEADD, attribute, data};
use super::{Entry, SetName, SetSpec, SetType};
use crate::kernel::netlink::nfnetlink::split_header;
use crate::kernel::netlink::{Attribute, Attributes, Message, Refusal};
use crate::net::{Family, Protocol};

/// What a set is, as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: SetName,
    pub type_name: Box<str>,
    /// `None` if it has none.
    pub family: Option<Family>,
    /// As that of [`ObservedSet`](super::ObservedSet).
    pub spec: Result<SetSpec, Box<str>>,
}

impl Header {
    /// Whether it is of this type and family: one like that can take its place.
    pub fn is_alike(&self, spec: &SetSpec) -> bool {
        let family = if spec.set_type == SetType::BitmapPort { None } else { Some(spec.family) };
        *self.type_name == *spec.set_type.as_str() && self.family == family
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.type_name)?;
        self.family.map_or(Ok(()), |family| write!(f, " of {family}"))
    }
}

/// What is behind the header of a message.
pub fn attributes<'a>(message: &Message<'a>) -> Option<Attributes<'a>> {
    split_header(message.payload).map(|(_, attributes)| Attributes::new(attributes))
}

/// The oldest and the newest version of the protocol that the kernel speaks.
pub fn protocol(attributes: Attributes<'_>) -> Option<(u8, u8)> {
    let newest = attributes.clone().find(attribute::PROTOCOL)?.u8()?;
    let oldest = attributes.find(attribute::PROTOCOL_MIN).and_then(|oldest| oldest.u8());
    Some((oldest.unwrap_or(newest), newest))
}

/// The name of the set that a message is about. `None` if it is no text.
pub fn name(attributes: Attributes<'_>) -> Option<SetName> {
    let name = attributes.find(attribute::SETNAME)?.text()?;
    (name.len() <= SetName::MAX).then(|| SetName::new(name))
}

/// What the set is. Only the first message about it says so.
pub fn header(attributes: &Attributes<'_>) -> Option<Header> {
    let find = |kind| attributes.clone().find(kind);
    let name = name(attributes.clone())?;
    let type_name = find(attribute::TYPENAME)?.text()?;
    let family = match i32::from(find(attribute::FAMILY)?.u8()?) {
        libc::AF_INET => Some(Family::V4),
        libc::AF_INET6 => Some(Family::V6),
        _ => None,
    };
    let made_with = find(attribute::DATA)?;
    let known = SetType::ALL.into_iter().find(|known| known.as_str() == type_name);
    let spec = known.and_then(|set_type| spec(&name, set_type, family, &made_with)).ok_or_else(|| {
        let what = if known.is_some() { " with options that weir does not use" } else { "" };
        format!("{type_name}{what}").into()
    });
    Some(Header { name, type_name: type_name.into(), family, spec })
}

/// `None` if it was made with something that changes what its entries mean, or makes them go by themselves.
fn spec(name: &SetName, set_type: SetType, family: Option<Family>, made_with: &Attribute<'_>) -> Option<SetSpec> {
    let find = |kind| made_with.nested().find(kind);
    if [data::TIMEOUT, data::NETMASK, data::BITMASK, data::MARKMASK].into_iter().any(|kind| find(kind).is_some()) {
        return None;
    }
    let flags = find(data::CADT_FLAGS).map_or(Some(0), |flags| flags.u32_be())?;
    let family = match set_type {
        SetType::BitmapPort => {
            let port = |kind| find(kind)?.u16_be();
            ((port(data::PORT)?, port(data::PORT_TO)?) == (0, u16::MAX)).then(|| name.family())?
        }
        _ => family?,
    };
    (flags & WITH_FORCEADD == 0).then_some(SetSpec { set_type, family, comments: flags & WITH_COMMENT != 0 })
}

/// An entry with its comment.
pub type Found = (Entry, Option<Arc<str>>);

/// The entries in a message. `None`: one that weir does not make.
pub fn entries<'a>(spec: SetSpec, attributes: &Attributes<'a>) -> impl Iterator<Item = Option<Found>> + use<'a> {
    let list = attributes.clone().find(attribute::ADT).map_or(Attributes::new(&[]), |list| list.nested());
    list.map(move |found| {
        let comment = match found.nested().find(data::COMMENT) {
            Some(comment) => Some(Arc::from(comment.text()?)),
            None => None,
        };
        Some((entry(spec, &found)?, comment))
    })
}

fn entry(spec: SetSpec, found: &Attribute<'_>) -> Option<Entry> {
    let find = |kind| found.nested().find(kind);
    let flags = find(data::CADT_FLAGS).map_or(Some(0), |flags| flags.u32_be())?;
    if found.kind != attribute::DATA || flags & NOMATCH != 0 || find(data::TIMEOUT).is_some() {
        return None;
    }
    let ip = |kind| address(spec.family, &find(kind)?);
    let net = |ip: IpAddr, kind| {
        let length = find(kind).map_or(Some(spec.family.bits()), |length| length.u8())?;
        IpNet::new(ip, length).ok().filter(|net| length > 0 && net.network() == ip)
    };
    let port = || find(data::PORT)?.u16_be();
    let protocol = || Protocol::from_number(find(data::PROTO)?.u8()?);
    match spec.set_type {
        SetType::HashIp => Some(Entry::Ip(ip(data::IP)?)),
        SetType::HashNet => Some(Entry::Net(net(ip(data::IP)?, data::CIDR)?)),
        SetType::HashIpPort => Some(Entry::IpPort(ip(data::IP)?, protocol()?, port()?)),
        SetType::HashIpPortIp => Some(Entry::IpPortIp(ip(data::IP)?, protocol()?, port()?, ip(data::IP2)?)),
        SetType::HashIpPortNet => {
            Some(Entry::IpPortNet(ip(data::IP)?, protocol()?, port()?, net(ip(data::IP2)?, data::CIDR2)?))
        }
        SetType::BitmapPort => Some(Entry::Port(port()?)),
    }
}

fn address(family: Family, outer: &Attribute<'_>) -> Option<IpAddr> {
    let inner = match family {
        Family::V4 => data::IPV4,
        Family::V6 => data::IPV6,
    };
    outer.nested().find(inner)?.ip().filter(|ip| Family::of(ip) == family)
}

/// The place among the entries of a request of the one that was refused.
pub fn refused_entry(refusal: &Refusal) -> Option<usize> {
    let (_, attributes) = split_header(&refusal.echo)?;
    let place = Attributes::new(attributes).find(attribute::LINENO)?.u32()?;
    usize::try_from(place).ok()?.checked_sub(1)
}
