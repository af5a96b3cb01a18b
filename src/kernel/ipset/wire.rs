//! Numbers of uapi `linux/netfilter/ipset/ip_set.h`.

/// The version of the protocol that is spoken here (`IPSET_PROTOCOL`): Linux 4.20 and later.
pub const PROTOCOL: u8 = 7;

/// A number is in network order (`NLA_F_NET_BYTEORDER`). The kernel takes no other from us.
pub const NET: u16 = 1 << 14;

/// `IPSET_CMD_*`
pub mod command {
    pub const PROTOCOL: u8 = 1;
    pub const CREATE: u8 = 2;
    pub const DESTROY: u8 = 3;
    pub const SWAP: u8 = 6;
    pub const LIST: u8 = 7;
    pub const ADD: u8 = 9;
    pub const DELETE: u8 = 10;
    pub const GET_BYNAME: u8 = 14;
    pub const GET_BYINDEX: u8 = 15;
}

/// `IPSET_ATTR_*` of a command.
pub mod attribute {
    pub const PROTOCOL: u16 = 1;
    pub const SETNAME: u16 = 2;
    pub const TYPENAME: u16 = 3;
    /// The other set, where two are swapped.
    pub const SETNAME2: u16 = 3;
    pub const REVISION: u16 = 4;
    pub const FAMILY: u16 = 5;
    pub const FLAGS: u16 = 6;
    /// One entry, or what a set is made with.
    pub const DATA: u16 = 7;
    /// Many entries.
    pub const ADT: u16 = 8;
    /// Any 32 bits that stand for an entry; in an answer, those of the entry that was refused.
    pub const LINENO: u16 = 9;
    /// The oldest version of the protocol that the kernel speaks.
    pub const PROTOCOL_MIN: u16 = 10;
    pub const INDEX: u16 = 11;
}

/// `IPSET_ATTR_*` of a set and of an entry.
pub mod data {
    pub const IP: u16 = 1;
    pub const CIDR: u16 = 3;
    pub const PORT: u16 = 4;
    pub const PORT_TO: u16 = 5;
    pub const TIMEOUT: u16 = 6;
    pub const PROTO: u16 = 7;
    pub const CADT_FLAGS: u16 = 8;
    pub const MARKMASK: u16 = 11;
    pub const BITMASK: u16 = 12;

    // Of a set only.
    pub const HASHSIZE: u16 = 18;
    pub const MAXELEM: u16 = 19;
    pub const NETMASK: u16 = 20;

    // Of an entry only.
    pub const IP2: u16 = 20;
    pub const CIDR2: u16 = 21;
    pub const COMMENT: u16 = 26;

    /// `IPSET_ATTR_IPADDR_*`
    pub const IPV4: u16 = 1;
    pub const IPV6: u16 = 2;
}

/// `IPSET_FLAG_LIST_HEADER`: no entries.
pub const LIST_HEADER: u32 = 1 << 2;

/// `IPSET_FLAG_NOMATCH` of an entry: what it has is not in the set.
pub const NOMATCH: u32 = 1 << 2;

/// `IPSET_FLAG_WITH_COMMENT` of a set.
pub const WITH_COMMENT: u32 = 1 << 4;

/// `IPSET_FLAG_WITH_FORCEADD` of a set: a new entry throws out another one if it is full.
pub const WITH_FORCEADD: u32 = 1 << 5;

/// Error numbers of ipset's own (`IPSET_ERR_*`).
pub mod error {
    pub const PROTOCOL: i32 = 4097;
    pub const FIND_TYPE: i32 = 4098;
    pub const MAX_SETS: i32 = 4099;
    pub const BUSY: i32 = 4100;
    pub const TYPE_MISMATCH: i32 = 4102;
    pub const INVALID_CIDR: i32 = 4104;
    pub const INVALID_FAMILY: i32 = 4106;
    pub const IPADDR_IPV4: i32 = 4109;
    pub const IPADDR_IPV6: i32 = 4110;
    pub const COMMENT: i32 = 4112;

    /// From here on they depend on the type of set: `IPSET_ERR_HASH_FULL`, `IPSET_ERR_HASH_ELEM`. The first is that of a bitmap
    /// for a port that is out of its range.
    pub const HASH_FULL: i32 = 4352;
    pub const HASH_ELEM: i32 = 4353;
}
