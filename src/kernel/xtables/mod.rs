//! iptables and ip6tables: tables, chains and rules as typed values, and the drivers that read and write them.
//!
//! | step | module |
//! |---|---|
//! | a rule as text, and back | [`encode`], [`decode`] |
//! | which chains are ours | [`ownership`] |
//! | what a rule names and thereby holds | [`references`] |
//! | a difference in a safe order | [`order`] |
//! | which iptables a host uses | [`variant`] |
//! | reading and writing nf_tables by netlink | [`nft`] |
//! | reading and writing through the tools | [`restore`] |
//! | either of them | [`Driver`] |

mod changes;
mod counts;
pub mod decode;
mod driver;
pub mod encode;
pub mod nft;
mod object;
pub mod order;
pub mod ownership;
mod process;
mod reference;
pub mod restore;
mod suspicion;
#[cfg(test)]
mod testing;
pub mod variant;

pub use changes::{
    ApplyError, ApplyErrorKind, BuiltinChange, ChainChange, Changes, ObserveError, ObservedChain, Xtables, observe_all,
};
pub use counts::{PerTable, RuleCounts, sum};
pub use driver::{Driver, NetlinkDriver};
pub use object::{
    AddrTypeMatch, ChainKey, ChainName, CtStates, Direction, InterfaceMatch, Match, NetMatch, ObservedRule, PortRange,
    RecentAction, Rule, Table, Target,
};
pub use reference::{Reference, references};
pub use suspicion::{Culprit, Scope, Suspicion};
