//! Numbers of uapi `linux/netfilter/ipset/ip_set.h`.

/// The version of the protocol that is spoken here (`IPSET_PROTOCOL`): Linux 4.20 and later.
pub const PROTOCOL: u8 = 7;

/// `IPSET_CMD_*`
pub mod command {
    pub const PROTOCOL: u8 = 1;
    pub const CREATE: u8 = 2;
    pub const DESTROY: u8 = 3;
    pub const FLUSH: u8 = 4;
    pub const RENAME: u8 = 5;
    pub const SWAP: u8 = 6;
    pub const LIST: u8 = 7;
    pub const ADD: u8 = 9;
    pub const DEL: u8 = 10;
    pub const HEADER: u8 = 12;
    pub const TYPE: u8 = 13;
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
    /// 32 bits: a number for what the entry is, which an error gives back.
    pub const LINENO: u16 = 9;
    pub const PROTOCOL_MIN: u16 = 10;
    pub const REVISION_MIN: u16 = 10;
    /// 16 bits in network order.
    pub const INDEX: u16 = 11;
}
