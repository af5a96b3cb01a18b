//! iptables and ip6tables: tables, chains and rules as typed values, and the drivers that read and write them.

mod changes;
mod object;

pub use changes::{
    ApplyError, ApplyErrorKind, BuiltinChange, ChainChange, Changes, ObserveError, ObservedChain, Xtables,
};
pub use object::{
    AddrTypeMatch, ChainKey, ChainName, CtStates, InterfaceMatch, Match, NetMatch, ObservedRule, PortRange,
    RecentAction, Rule, Table, Target,
};
