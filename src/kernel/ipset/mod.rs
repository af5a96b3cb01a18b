//! ipset: named sets that rules look addresses and ports up in, and the driver that reads and writes them by nfnetlink
//! (uapi `linux/netfilter/ipset/ip_set.h`).

mod changes;
mod compare;
mod object;

pub use changes::{Changes, SetChange, Sets};
pub use compare::compare;
pub use object::{Entries, Entry, ObservedSet, SetName, SetSpec, SetType};
