//! Matches: the structures of uapi `linux/netfilter/xt_*.h`.

use std::sync::Arc;

use super::{Extension, Info};
use crate::kernel::ipset::INVALID_INDEX;
use crate::kernel::xtables::encode::{MAX_DIRECTIONS, is_range};
use crate::kernel::xtables::nft::sets::SetIndexes;
use crate::kernel::xtables::{AddrTypeMatch, CtStates, Direction, Match, PortRange, RecentAction};
use crate::net::{Family, Protocol};

/// A match as an extension. A set must be known; the kernel refuses a rule that has it nevertheless.
pub fn match_extension(family: Family, item: &Match, sets: &SetIndexes) -> Extension {
    match item {
        Match::Comment(text) => comment(text),
        Match::Ports { protocol, source, destination } => match protocol {
            Protocol::Tcp => tcp_or_udp("tcp", tcp::INVERT, *source, *destination),
            Protocol::Udp => tcp_or_udp("udp", udp::INVERT, *source, *destination),
            Protocol::Sctp => sctp(*source, *destination),
        },
        Match::Mark { invert, value, mask } => {
            let mut mark = Extension::new("mark", 1, mark::LENGTH);
            mark.set_u32(mark::VALUE, *value).set_u32(mark::MASK, *mask).set_u8(mark::INVERT, u8::from(*invert));
            mark
        }
        Match::Random { probability } => random(*probability),
        Match::Recent { name, action } => recent(family, name, *action),
        Match::AddrType(types) => addrtype(*types),
        Match::CtState { invert, states } => {
            let mut conntrack = Extension::new("conntrack", 3, conntrack::LENGTH);
            conntrack
                .set_u16(conntrack::MATCHED, conntrack::STATE)
                .set_u16(conntrack::INVERTED, if *invert { conntrack::STATE } else { 0 })
                .set_u16(conntrack::STATES, states.0);
            conntrack
        }
        Match::Nfacct(name) => nfacct(name),
        Match::Set { invert, set, directions } => lookup(*invert, sets.index(set).unwrap_or(INVALID_INDEX), directions),
    }
}

/// The match that the known fields describe. Whether the other fields say something too is not looked at here.
pub(super) fn read(name: &str, info: Info<'_>, sets: &SetIndexes) -> Option<Match> {
    match name {
        "comment" => Some(Match::Comment(Arc::from(info.text(0, comment::LENGTH)?))),
        "tcp" => read_tcp_or_udp(Protocol::Tcp, tcp::INVERT, info),
        "udp" => read_tcp_or_udp(Protocol::Udp, udp::INVERT, info),
        "sctp" => read_sctp(info),
        "mark" => Some(Match::Mark {
            invert: info.u8(mark::INVERT)? != 0,
            value: info.u32(mark::VALUE)?,
            mask: info.u32(mark::MASK)?,
        }),
        "statistic" => Some(Match::Random { probability: info.u32(statistic::PROBABILITY)? }),
        "recent" => read_recent(info),
        "addrtype" => read_addrtype(info),
        "conntrack" => Some(Match::CtState {
            invert: info.u16(conntrack::INVERTED)? != 0,
            states: CtStates(info.u16(conntrack::STATES)?),
        }),
        "nfacct" => Some(Match::Nfacct(Arc::from(info.text(0, nfacct::NAME_LENGTH)?))),
        "set" => read_lookup(info, sets),
        _ => None,
    }
}

/// `struct xt_comment_info`
mod comment {
    pub const LENGTH: usize = 256;
}

fn comment(text: &str) -> Extension {
    let mut comment = Extension::new("comment", 0, comment::LENGTH);
    comment.set_text(0, comment::LENGTH, text);
    comment
}

/// `struct xt_tcp`: first and last source port, first and last destination port, three bytes about TCP's own fields.
mod tcp {
    pub const INVERT: usize = 11;
}

/// `struct xt_udp`: as `xt_tcp` without the three bytes.
mod udp {
    pub const INVERT: usize = 8;
}

/// `XT_TCP_INV_SRCPT`, `XT_TCP_INV_DSTPT`, and the same for UDP and SCTP.
const SOURCE: u8 = 1;
const DESTINATION: u8 = 2;

const ALL_PORTS: PortRange = PortRange { invert: false, first: 0, last: u16::MAX };

fn tcp_or_udp(
    name: &'static str,
    invert_at: usize,
    source: Option<PortRange>,
    destination: Option<PortRange>,
) -> Extension {
    const LENGTH: usize = 16;
    let mut ports = Extension::new(name, 0, LENGTH);
    let (from, to) = (source.unwrap_or(ALL_PORTS), destination.unwrap_or(ALL_PORTS));
    ports.set_u16(0, from.first).set_u16(2, from.last).set_u16(4, to.first).set_u16(6, to.last);
    ports.set_u8(invert_at, inverted(source, destination));
    ports
}

fn inverted(source: Option<PortRange>, destination: Option<PortRange>) -> u8 {
    let flag = |range: Option<PortRange>, flag| if range.is_some_and(|range| range.invert) { flag } else { 0 };
    flag(source, SOURCE) | flag(destination, DESTINATION)
}

fn read_tcp_or_udp(protocol: Protocol, invert_at: usize, info: Info<'_>) -> Option<Match> {
    let inverted = info.u8(invert_at)?;
    let range = |at, flag| {
        let range = PortRange { invert: inverted & flag != 0, first: info.u16(at)?, last: info.u16(at + 2)? };
        Some((range != ALL_PORTS).then_some(range))
    };
    let (source, destination) = (range(0, SOURCE)?, range(4, DESTINATION)?);
    [source, destination].iter().flatten().all(is_range).then_some(Match::Ports { protocol, source, destination })
}

/// `struct xt_sctp_info`: ports count only if a flag says so.
mod sctp {
    pub const LENGTH: usize = 296;
    pub const DESTINATION_PORTS: usize = 0;
    pub const SOURCE_PORTS: usize = 4;
    /// Four entries of three bytes each: chunk type, flags, mask. A type of 255 is none.
    pub const CHUNK_FLAGS: [usize; 4] = [268, 271, 274, 277];
    pub const FLAGS: usize = 284;
    pub const INVERT: usize = 288;
}

fn sctp(source: Option<PortRange>, destination: Option<PortRange>) -> Extension {
    let mut sctp = Extension::new("sctp", 0, sctp::LENGTH);
    let mut flags = 0;
    for (range, at, flag) in [(source, sctp::SOURCE_PORTS, SOURCE), (destination, sctp::DESTINATION_PORTS, DESTINATION)]
    {
        if let Some(range) = range {
            sctp.set_u16(at, range.first).set_u16(at + 2, range.last);
            flags |= u32::from(flag);
        }
    }
    for at in sctp::CHUNK_FLAGS {
        sctp.set_u8(at, u8::MAX);
    }
    sctp.set_u32(sctp::FLAGS, flags).set_u32(sctp::INVERT, u32::from(inverted(source, destination)));
    sctp
}

fn read_sctp(info: Info<'_>) -> Option<Match> {
    let (flags, inverted) = (info.u32(sctp::FLAGS)?, info.u32(sctp::INVERT)?);
    let range = |at, flag| {
        let invert = inverted & u32::from(flag) != 0;
        let range = PortRange { invert, first: info.u16(at)?, last: info.u16(at + 2)? };
        Some((flags & u32::from(flag) != 0).then_some(range))
    };
    let (source, destination) = (range(sctp::SOURCE_PORTS, SOURCE)?, range(sctp::DESTINATION_PORTS, DESTINATION)?);
    [source, destination].iter().flatten().all(is_range).then_some(Match::Ports {
        protocol: Protocol::Sctp,
        source,
        destination,
    })
}

/// `struct xt_mark_mtinfo1`
mod mark {
    pub const LENGTH: usize = 16;
    pub const VALUE: usize = 0;
    pub const MASK: usize = 4;
    pub const INVERT: usize = 8;
}

/// `struct xt_statistic_info`: mode 0 is random, no flags.
mod statistic {
    pub const LENGTH: usize = 24;
    pub const PROBABILITY: usize = 4;
    /// The counter of the other mode, then the kernel's pointer. The tools leave the probability here once more.
    pub const COUNT: usize = 12;
}

fn random(probability: u32) -> Extension {
    let mut random = Extension::new("statistic", 0, statistic::LENGTH);
    random.set_u32(statistic::PROBABILITY, probability).set_u32(statistic::COUNT, probability);
    random.significant = statistic::COUNT;
    random
}

/// `struct xt_recent_mtinfo_v1`: with `side` 0 the address is the source.
mod recent {
    pub const LENGTH: usize = 232;
    pub const SECONDS: usize = 0;
    pub const ACTION: usize = 8;
    pub const NAME: usize = 10;
    pub const NAME_LENGTH: usize = 200;
    pub const MASK: usize = 212;

    /// `XT_RECENT_CHECK`, `XT_RECENT_SET`, `XT_RECENT_REAP`
    pub const CHECK: u8 = 1;
    pub const SET: u8 = 2;
    pub const REAP: u8 = 0x20;
}

fn recent(family: Family, name: &str, action: RecentAction) -> Extension {
    let (seconds, action) = match action {
        RecentAction::Set => (0, recent::SET),
        RecentAction::Check { seconds, reap } => (seconds, recent::CHECK | if reap { recent::REAP } else { 0 }),
    };
    let mut recent = Extension::new("recent", 1, recent::LENGTH);
    recent
        .set_u32(recent::SECONDS, seconds)
        .set_u8(recent::ACTION, action)
        .set_text(recent::NAME, recent::NAME_LENGTH, name)
        .set(recent::MASK, &[u8::MAX; 16]);
    // All of it, as the tools write if no mask is asked for. With `--mask` they write no more than the address has.
    recent.significant = recent::MASK + usize::from(family.bits() / 8);
    recent
}

fn read_recent(info: Info<'_>) -> Option<Match> {
    let (seconds, action) = (info.u32(recent::SECONDS)?, info.u8(recent::ACTION)?);
    let action = match action {
        recent::SET => RecentAction::Set,
        // Without seconds it means any time, and the tools print no `--seconds`.
        _ if seconds > 0 => RecentAction::Check { seconds, reap: action & recent::REAP != 0 },
        _ => return None,
    };
    Some(Match::Recent { name: Arc::from(info.text(recent::NAME, recent::NAME_LENGTH)?), action })
}

/// `struct xt_addrtype_info_v1`: a mask of types each for source and destination, flags.
mod addrtype {
    pub const LENGTH: usize = 8;
    pub const SOURCE: usize = 0;
    pub const DESTINATION: usize = 2;
    pub const FLAGS: usize = 4;

    /// `XT_ADDRTYPE_LOCAL`
    pub const LOCAL: u16 = 4;
    /// `XT_ADDRTYPE_INVERT_SOURCE`, `XT_ADDRTYPE_INVERT_DEST`
    pub const INVERT_SOURCE: u32 = 1;
    pub const INVERT_DESTINATION: u32 = 2;
}

fn addrtype(types: AddrTypeMatch) -> Extension {
    let mut addrtype = Extension::new("addrtype", 1, addrtype::LENGTH);
    let mut flags = 0;
    for (invert, at, flag) in [
        (types.source_local, addrtype::SOURCE, addrtype::INVERT_SOURCE),
        (types.destination_local, addrtype::DESTINATION, addrtype::INVERT_DESTINATION),
    ] {
        if let Some(invert) = invert {
            addrtype.set_u16(at, addrtype::LOCAL);
            flags |= if invert { flag } else { 0 };
        }
    }
    addrtype.set_u32(addrtype::FLAGS, flags);
    addrtype
}

fn read_addrtype(info: Info<'_>) -> Option<Match> {
    let flags = info.u32(addrtype::FLAGS)?;
    let local = |at, flag| Some((info.u16(at)? != 0).then_some(flags & flag != 0));
    Some(Match::AddrType(AddrTypeMatch {
        source_local: local(addrtype::SOURCE, addrtype::INVERT_SOURCE)?,
        destination_local: local(addrtype::DESTINATION, addrtype::INVERT_DESTINATION)?,
    }))
}

/// `struct xt_conntrack_mtinfo3`: addresses and ports first, which count only if they are matched.
mod conntrack {
    pub const LENGTH: usize = 168;
    pub const MATCHED: usize = 146;
    pub const INVERTED: usize = 148;
    pub const STATES: usize = 150;

    /// `XT_CONNTRACK_STATE`
    pub const STATE: u16 = 1;
}

/// `struct xt_nfacct_match_info_v1`: the kernel's pointer follows. Revision 0 hides nothing else.
mod nfacct {
    pub const LENGTH: usize = 40;
    pub const NAME_LENGTH: usize = 32;
}

fn nfacct(name: &str) -> Extension {
    let mut nfacct = Extension::new("nfacct", 1, nfacct::LENGTH);
    nfacct.set_text(0, nfacct::NAME_LENGTH, name);
    nfacct.significant = nfacct::NAME_LENGTH;
    nfacct.older_revision = Some(0);
    nfacct
}

/// `struct xt_set_info_match_v4`: the set and which parts of the packet are looked up in it, then conditions on the
/// counters of the entry, and flags. Revision 4 is what every iptables writes that finds it in the kernel (since 3.19).
mod set {
    pub const LENGTH: usize = 48;
    pub const INDEX: usize = 0;
    pub const DIMENSIONS: usize = 2;
    pub const FLAGS: usize = 3;

    /// `IPSET_INV_MATCH`
    pub const INVERT: u8 = 1;
}

fn lookup(invert: bool, index: u16, directions: &[Direction]) -> Extension {
    let mut set = Extension::new("set", 4, set::LENGTH);
    let (mut flags, mut dimensions) = (if invert { set::INVERT } else { 0 }, 0);
    for (direction, flag) in directions.iter().zip(source_flags()) {
        dimensions += 1;
        if *direction == Direction::Source {
            flags |= flag;
        }
    }
    set.set_u16(set::INDEX, index).set_u8(set::DIMENSIONS, dimensions).set_u8(set::FLAGS, flags);
    set
}

fn read_lookup(info: Info<'_>, sets: &SetIndexes) -> Option<Match> {
    let flags = info.u8(set::FLAGS)?;
    let dimensions = usize::from(info.u8(set::DIMENSIONS)?);
    let direction = |flag| if flags & flag != 0 { Direction::Source } else { Direction::Destination };
    Some(Match::Set {
        invert: flags & set::INVERT != 0,
        set: sets.name(info.u16(set::INDEX)?)?.clone(),
        directions: source_flags().take(dimensions).map(direction).collect(),
    })
}

/// For each part that is looked up, the flag that it is the packet's source: `IPSET_DIM_ONE_SRC` and so on.
fn source_flags() -> impl Iterator<Item = u8> {
    (1..=MAX_DIRECTIONS).map(|dimension| 1 << dimension)
}
