//! The driver that speaks nf_tables by netlink: tables and rules as iptables-nft makes them, without iptables.
//!
//! iptables-nft keeps its tables in nf_tables, with the matches and targets of x_tables as compatibility expressions. The
//! same can be written without it; `iptables-save`, `iptables -C` and `iptables-restore` read and match what is written
//! here as if they had written it.
//!
//! | file | idea |
//! |---|---|
//! | `expression` | a rule as expressions, and back |
//! | `hook` | where the built-in chains hang |
//! | `wire` | messages: tables, chains, rules, generations |
//! | `read` | lists of chains and rules |
//! | `sets` | the indexes by which rules refer to sets |
//! | `edit` | the smallest edit of a chain's rules, by handle |
//! | `transaction` | messages that come into force together |
//! | `write` | a difference as transactions of bounded size |
//! | `probe` | what the kernel can do and holds |
//! | `driver` | the [`Xtables`](super::Xtables) kernel |
//!
//! # A change
//! The chains that a change is about are read first, rule by rule with their handles; what is written is the smallest
//! edit from what is really there. The transaction carries the generation of the ruleset that was read: if anybody
//! changed anything since, the kernel refuses it, and it is made anew. So a change is right whatever somebody else did,
//! and no handle needs to be remembered.
//!
//! What fits into one transaction is one: all tables of a family change at the same instant. A larger change is cut
//! where a half of it does no harm, see [`order`](super::order).

mod driver;
mod edit;
pub mod expression;
mod hook;
pub mod probe;
mod read;
pub mod sets;
#[cfg(test)]
mod tests;
mod transaction;
pub(in crate::kernel) mod wire;
mod write;

pub use driver::{NftDriver, Written};
pub use read::generation;
