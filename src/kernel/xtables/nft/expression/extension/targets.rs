//! Targets: the structures of uapi `linux/netfilter/xt_MARK.h`, `linux/netfilter/nf_nat.h`,
//! `linux/netfilter_ipv4/ipt_REJECT.h` and `linux/netfilter_ipv6/ip6t_REJECT.h`.

use super::{Extension, Info};
use crate::kernel::xtables::Target;
use crate::net::{Endpoint, Family};

/// A target as an extension; `None` if it is a verdict.
pub fn target_extension(family: Family, target: &Target) -> Option<Extension> {
    match target {
        Target::Jump(_) | Target::Goto(_) | Target::Accept | Target::Drop | Target::Return => None,
        Target::Reject => {
            let mut reject = Extension::new("REJECT", 0, reject::LENGTH);
            reject.set_u32(0, reject::port_unreachable(family));
            Some(reject)
        }
        Target::Dnat(endpoint) => Some(dnat(*endpoint)),
        Target::Masquerade { random_fully } => Some(masquerade(family, *random_fully)),
        Target::Mark { value, mask } => {
            let mut mark = Extension::new("MARK", 2, mark::LENGTH);
            mark.set_u32(mark::VALUE, *value).set_u32(mark::MASK, *mask);
            Some(mark)
        }
    }
}

/// The target that the known fields describe. Whether the other fields say something too is not looked at here.
pub(super) fn read(family: Family, name: &str, info: Info<'_>) -> Option<Target> {
    match name {
        "REJECT" => Some(Target::Reject),
        "DNAT" => {
            let port = info.u16_be(dnat::FIRST_PORT)?;
            Some(Target::Dnat(Endpoint::new(info.ip(family, dnat::FIRST_ADDRESS)?, port)))
        }
        "MASQUERADE" => Some(Target::Masquerade { random_fully: info.u32(masquerade::flags_at(family))? != 0 }),
        "MARK" => Some(Target::Mark { value: info.u32(mark::VALUE)?, mask: info.u32(mark::MASK)? }),
        _ => None,
    }
}

/// `struct ipt_reject_info`, `struct ip6t_reject_info`
mod reject {
    use crate::net::Family;

    pub const LENGTH: usize = 8;

    /// `IPT_ICMP_PORT_UNREACHABLE`, `IP6T_ICMP6_PORT_UNREACH`
    pub const fn port_unreachable(family: Family) -> u32 {
        match family {
            Family::V4 => 3,
            Family::V6 => 4,
        }
    }
}

/// `struct nf_nat_range2`: flags, first and last address, first and last port (most significant byte first), and a
/// base port.
mod dnat {
    pub const LENGTH: usize = 48;
    pub const FLAGS: usize = 0;
    pub const FIRST_ADDRESS: usize = 4;
    pub const LAST_ADDRESS: usize = 20;
    pub const FIRST_PORT: usize = 36;
    pub const LAST_PORT: usize = 38;

    /// `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED`
    pub const ADDRESS_AND_PORT: u32 = 3;
}

fn dnat(endpoint: Endpoint) -> Extension {
    let mut dnat = Extension::new("DNAT", 2, dnat::LENGTH);
    dnat.set_u32(dnat::FLAGS, dnat::ADDRESS_AND_PORT)
        .set_ip(dnat::FIRST_ADDRESS, endpoint.ip)
        .set_ip(dnat::LAST_ADDRESS, endpoint.ip)
        .set_u16_be(dnat::FIRST_PORT, endpoint.port)
        .set_u16_be(dnat::LAST_PORT, endpoint.port);
    dnat
}

/// `struct nf_nat_ipv4_multi_range_compat`, which begins with a number of ranges that is always 1; for IPv6
/// `struct nf_nat_range`. Nothing but the flags is used.
mod masquerade {
    use crate::net::Family;

    /// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
    pub const RANDOM_FULLY: u32 = 1 << 4;

    pub const fn length(family: Family) -> usize {
        match family {
            Family::V4 => 24,
            Family::V6 => 40,
        }
    }

    pub const fn flags_at(family: Family) -> usize {
        match family {
            Family::V4 => 4,
            Family::V6 => 0,
        }
    }
}

fn masquerade(family: Family, random_fully: bool) -> Extension {
    let mut masquerade = Extension::new("MASQUERADE", 0, masquerade::length(family));
    if family == Family::V4 {
        masquerade.set_u32(0, 1);
    }
    masquerade.set_u32(masquerade::flags_at(family), if random_fully { masquerade::RANDOM_FULLY } else { 0 });
    masquerade
}

/// `struct xt_mark_tginfo2`
mod mark {
    pub const LENGTH: usize = 8;
    pub const VALUE: usize = 0;
    pub const MASK: usize = 4;
}
