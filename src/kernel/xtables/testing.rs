//! Rules for property tests: everything that a rule may say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::option::of;
use proptest::prelude::*;

use super::encode::ONE;
use super::{
    AddrTypeMatch, ChainName, CtStates, Direction, InterfaceMatch, Match, NetMatch, PortRange, RecentAction, Rule,
    Target,
};
use crate::kernel::ipset::SetName;
use crate::net::{Endpoint, Family, Protocol};

fn ip(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))).boxed(),
        Family::V6 => prop_oneof![
            any::<u128>(),
            any::<u32>().prop_map(u128::from),
            any::<u32>().prop_map(|bits| u128::from(bits) | 0xffff_0000_0000),
            (any::<u16>(), any::<u16>()).prop_map(|(a, b)| u128::from(a) << 112 | u128::from(b)),
        ]
        .prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
        .boxed(),
    }
}

fn net(family: Family) -> impl Strategy<Value = NetMatch> {
    (any::<bool>(), ip(family), 1..=family.bits())
        .prop_map(|(invert, ip, length)| NetMatch { invert, net: IpNet::new(ip, length).unwrap().trunc() })
}

fn interface() -> impl Strategy<Value = InterfaceMatch> {
    (any::<bool>(), "[a-z][a-z0-9._@:-]{0,12}[+]?")
        .prop_map(|(invert, name)| InterfaceMatch { invert, name: name.into() })
}

fn ports() -> impl Strategy<Value = PortRange> {
    (any::<bool>(), any::<u16>(), any::<u16>())
        .prop_map(|(invert, a, b)| PortRange { invert, first: a.min(b), last: a.max(b) })
        .prop_filter("all ports are no match", |range| (range.first, range.last) != (0, u16::MAX))
}

fn comment() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9_-]{0,40}", "[ -~]{0,80}", "[\"'\\\\ ]{0,12}", "[^\n\0]{0,60}"]
}

fn matches(protocol: Option<Protocol>) -> impl Strategy<Value = Match> {
    let name = "[A-Z][A-Z0-9-]{0,27}";
    let ports = (of(ports()), of(ports()));
    let direction = proptest::sample::select(&[Direction::Source, Direction::Destination][..]);
    let directions = proptest::collection::vec(direction, 1..=3).prop_map(Vec::into_boxed_slice);
    prop_oneof![
        comment().prop_map(|text| Match::Comment(text.into())),
        ports.prop_map(move |(source, destination)| match protocol {
            Some(protocol) => Match::Ports { protocol, source, destination },
            None => Match::Comment("ports need a protocol".into()),
        }),
        (any::<bool>(), any::<u32>(), prop_oneof![Just(u32::MAX), any::<u32>()])
            .prop_map(|(invert, value, mask)| Match::Mark { invert, value, mask }),
        (0..=ONE).prop_map(|probability| Match::Random { probability }),
        name.prop_map(|name| Match::Recent { name: name.into(), action: RecentAction::Set }),
        (name, 1..=u32::MAX, any::<bool>()).prop_map(|(name, seconds, reap)| Match::Recent {
            name: name.into(),
            action: RecentAction::Check { seconds, reap }
        }),
        (any::<Option<bool>>(), any::<bool>())
            .prop_map(|(s, d)| Match::AddrType(AddrTypeMatch { source_local: s, destination_local: Some(d) })),
        any::<bool>().prop_map(|s| Match::AddrType(AddrTypeMatch { source_local: Some(s), destination_local: None })),
        (any::<bool>(), 1..128u16).prop_map(|(invert, bits)| {
            let states = CtStates(bits & 0x0f | (bits & 0x70) << 2);
            Match::CtState { invert, states }
        }),
        "[a-z_.]{1,30}".prop_map(|name| Match::Nfacct(name.into())),
        (any::<bool>(), "[A-Z][A-Z0-9.:-]{0,30}", directions).prop_map(|(invert, name, directions)| Match::Set {
            invert,
            set: SetName::new(name),
            directions
        }),
    ]
}

fn target(family: Family) -> impl Strategy<Value = Target> {
    prop_oneof![
        "KUBE-[A-Z0-9-]{1,20}".prop_map(|name| Target::Jump(ChainName::new(name))),
        "KUBE-[A-Z0-9-]{1,20}".prop_map(|name| Target::Goto(ChainName::new(name))),
        Just(Target::Accept),
        Just(Target::Drop),
        Just(Target::Return),
        Just(Target::Reject),
        (ip(family), any::<u16>()).prop_map(|(ip, port)| Target::Dnat(Endpoint::new(ip, port))),
        any::<bool>().prop_map(|random_fully| Target::Masquerade { random_fully }),
        any::<(u32, u32)>().prop_map(|(value, mask)| Target::Mark { value, mask }),
    ]
}

fn rule(family: Family) -> impl Strategy<Value = Rule> {
    of(proptest::sample::select(&Protocol::ALL[..])).prop_flat_map(move |protocol| {
        (
            of(net(family)),
            of(net(family)),
            of(interface()),
            of(interface()),
            proptest::collection::vec(matches(protocol), 0..4),
            of(target(family)),
        )
            .prop_map(move |(source, destination, in_interface, out_interface, matches, target)| Rule {
                source,
                destination,
                in_interface,
                out_interface,
                protocol,
                matches,
                target,
            })
    })
}

pub fn family_and_rule() -> impl Strategy<Value = (Family, Rule)> {
    proptest::sample::select(&Family::ALL[..]).prop_flat_map(|family| (Just(family), rule(family)))
}
