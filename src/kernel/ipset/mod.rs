//! ipset: named sets that rules look addresses and ports up in, and the driver that reads and writes them by nfnetlink
//! (uapi `linux/netfilter/ipset/ip_set.h`).

mod changes;
mod compare;
mod lookup;
mod object;
mod wire;

pub use changes::{Changes, SetChange, Sets};
pub use compare::compare;
pub use lookup::{INVALID_INDEX, index_of, name_of};
pub use object::{Entries, Entry, ObservedSet, SetName, SetSpec, SetType};
