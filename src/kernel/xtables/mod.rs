//! iptables and ip6tables: tables, chains and rules as typed values, and the drivers that read and write them.

mod changes;
mod object;
mod ownership;
pub use ownership::is_owned;

pub use changes::{
    ApplyError, ApplyErrorKind, BuiltinChange, ChainChange, Changes, ObserveError, ObservedChain, Xtables,
};
pub use object::{
    AddrTypeMatch, ChainKey, ChainName, CtStates, InterfaceMatch, Match, NetMatch, ObservedRule, PortRange,
    RecentAction, Rule, Table, Target,
};
