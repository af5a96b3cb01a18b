//! Attribute numbers and codes of uapi `linux/netfilter/nf_tables.h` and `nf_tables_compat.h`.
//!
//! Integers are 32 bits, most significant byte first, where nothing else is said.

use crate::net::Family;

/// `NFTA_RULE_*`
pub mod rule {
    pub const EXPRESSIONS: u16 = 4;
    pub const COMPAT: u16 = 5;
}

/// `NFTA_RULE_COMPAT_*`
pub mod compat {
    pub const PROTOCOL: u16 = 1;
    pub const FLAGS: u16 = 2;
}

/// `NFTA_LIST_ELEM`, and in it `NFTA_EXPR_*`.
pub mod expression {
    pub const ELEMENT: u16 = 1;
    pub const NAME: u16 = 1;
    pub const DATA: u16 = 2;
}

/// `NFT_REG_VERDICT`, `NFT_REG_1`. No iptables-nft uses another one.
pub const REGISTER_VERDICT: u32 = 0;
pub const REGISTER: u32 = 1;

/// `NFTA_META_*`, `NFT_META_*`
pub mod meta {
    pub const NAME: &str = "meta";
    pub const DREG: u16 = 1;
    pub const KEY: u16 = 2;

    /// In the machine's byte order.
    pub const MARK: u32 = 3;
    pub const IIFNAME: u32 = 6;
    pub const OIFNAME: u32 = 7;
    pub const L4PROTO: u32 = 16;
}

/// `NFTA_PAYLOAD_*`, `NFT_PAYLOAD_*`
pub mod payload {
    pub const NAME: &str = "payload";
    pub const DREG: u16 = 1;
    pub const BASE: u16 = 2;
    pub const OFFSET: u16 = 3;
    pub const LENGTH: u16 = 4;

    pub const NETWORK: u32 = 1;
    pub const TRANSPORT: u32 = 2;

    /// The protocol in an IPv4 header.
    pub const IPV4_PROTOCOL: u32 = 9;
    /// The ports in the headers of TCP and UDP.
    pub const SOURCE_PORT: u32 = 0;
    pub const DESTINATION_PORT: u32 = 2;
}

/// `NFTA_BITWISE_*`
pub mod bitwise {
    pub const NAME: &str = "bitwise";
    pub const SREG: u16 = 1;
    pub const DREG: u16 = 2;
    pub const LENGTH: u16 = 3;
    pub const MASK: u16 = 4;
    pub const XOR: u16 = 5;

    /// `NFT_BITWISE_MASK_XOR`. Kernels since 5.6 dump it; no iptables-nft sends it.
    pub const MASK_XOR: u32 = 0;
}

/// `NFTA_CMP_*` and `NFTA_RANGE_*`, `NFT_CMP_*` and `NFT_RANGE_*`
pub mod compare {
    pub const CMP: &str = "cmp";
    pub const RANGE: &str = "range";
    pub const SREG: u16 = 1;
    pub const OP: u16 = 2;
    pub const DATA: u16 = 3;

    pub const EQUAL: u32 = 0;
    pub const NOT_EQUAL: u32 = 1;
    /// `cmp` only, most significant byte first.
    pub const LESS: u32 = 2;
    pub const LESS_OR_EQUAL: u32 = 3;
    pub const GREATER: u32 = 4;
    pub const GREATER_OR_EQUAL: u32 = 5;
}

/// `NFTA_DATA_*`
pub mod data {
    pub const VALUE: u16 = 1;
    pub const VERDICT: u16 = 2;
}

/// `NFTA_MATCH_*` and `NFTA_TARGET_*`
pub mod extension {
    pub const MATCH: &str = "match";
    pub const TARGET: &str = "target";
    pub const NAME: u16 = 1;
    pub const REVISION: u16 = 2;
    pub const INFO: u16 = 3;
}

/// `NFTA_COUNTER_*`, 64 bits each.
pub mod counter {
    pub const NAME: &str = "counter";
    pub const BYTES: u16 = 1;
    pub const PACKETS: u16 = 2;
}

/// `NFTA_IMMEDIATE_*`
pub mod immediate {
    pub const NAME: &str = "immediate";
    pub const DREG: u16 = 1;
    pub const DATA: u16 = 2;
}

/// `NFTA_VERDICT_*`, and the codes: `NF_*` of uapi `linux/netfilter.h`, `NFT_*`.
pub mod verdict {
    pub const CODE: u16 = 1;
    pub const CHAIN: u16 = 2;

    pub const DROP: i32 = 0;
    pub const ACCEPT: i32 = 1;
    pub const JUMP: i32 = -3;
    pub const GOTO: i32 = -4;
    pub const RETURN: i32 = -5;
}

/// A name that no interface has, with which iptables-nft from 1.8.11 on writes a rule that must not match.
pub const NO_INTERFACE: &str = "INVAL/D";

/// Where a family's header holds the addresses: offsets and length in bytes.
pub struct Addresses {
    pub source: u32,
    pub destination: u32,
    pub length: usize,
}

impl Addresses {
    pub const fn of(family: Family) -> Self {
        match family {
            Family::V4 => Addresses { source: 12, destination: 16, length: 4 },
            Family::V6 => Addresses { source: 8, destination: 24, length: 16 },
        }
    }
}
