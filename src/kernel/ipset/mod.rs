//! ipset: named sets that rules look addresses and ports up in, and the driver that reads and writes them by nfnetlink
//! (uapi `linux/netfilter/ipset/ip_set.h`).
//!
//! | file | idea |
//! |---|---|
//! | `object`, `changes` | sets and their difference as values |
//! | `compare` | what is wanted against what is there |
//! | [`text`] | the syntax of `ipset save`, both ways |
//! | `check` | which entries a set can hold |
//! | `wire`, `encode`, `decode` | messages |
//! | `conversation` | one request, and what the kernel says to it |
//! | `driver` | the [`Sets`] of the kernel |
//! | `lookup` | the index by which rules refer to a set |

mod changes;
mod check;
mod compare;
mod conversation;
mod decode;
mod driver;
mod encode;
mod error;
mod lookup;
mod object;
#[cfg(test)]
mod tests;
pub mod text;
mod wire;

pub use changes::{Changes, SetChange, Sets};
pub use check::{check, unfit};
pub use compare::{Compared, Mismatch, compare};
pub use driver::{IpsetDriver, TEMPORARY};
pub use error::IpsetError;
pub use lookup::{INVALID_INDEX, index_of, name_of};
pub use object::{Entries, Entry, ObservedSet, SetName, SetSpec, SetType};
