//! The IPVS plan: service ports → virtual servers, sets, addresses and the few rules around them (contract 4).
//!
//! A frontend of a service is a virtual server, whose real servers are the endpoints. Its address is put on a device of
//! the node, so that packets to it are the node's own and come to IPVS. Rules only mark, masquerade and refuse; they look
//! frontends up in sets, and are the same whatever services there are.
//!
//! | file | idea |
//! |---|---|
//! | `sets` | names and types of the sets |
//! | `base` | the rules |
//! | `claim` | what one service port asks for |
//! | `ledger` | what several may want, and is there as long as one does |
//! | `drain` | real servers that go, with their connections |
//! | `planner` | moves of service ports → the difference they make |
//! | `desired` | everything that is wanted, as a value |
//! | `compare` | what the kernel holds against what is wanted, and whose virtual servers are whose |

mod base;
mod claim;
mod compare;
mod desired;
mod difference;
mod drain;
mod ledger;
mod planner;
#[cfg(test)]
mod rows;
mod sets;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use base::builtin_rules;
pub use claim::is_node_address;
pub use compare::{Denied, Goal, Observed, Obstacle, Ownership, compare, obstacles};
pub use desired::{Desired, Served, entrance, is_our_set, rules, rules_named};
pub use difference::Difference;
pub use drain::{Draining, UnixSeconds};
pub use planner::Planner;
pub use sets::Set;
