//! The iptables plan: service ports → chains and rules (contract 3).
//!
//! Chains and rules are kube-proxy's, with its names and hashes, so that taking over a node changes only what differs.
//! Three things are ours:
//!
//! * [`hairpin`]: an endpoint that is on another node has no chain of its own, where that chain would do nothing but lead
//!   to it.
//! * [`dispatch`]: what kube-proxy keeps as one long chain is a tree of small chains keyed by address prefix and, below
//!   one address or for node ports, by port range. Few services are one chain, exactly as kube-proxy writes it.
//! * [`balance`]: a service with many endpoints chooses a group first and an endpoint then.
//!
//! | file | idea |
//! |---|---|
//! | `names` | chain names |
//! | `service` | what one service port owns: its chains, and its entries in the dispatchers |
//! | `balance` | choosing an endpoint |
//! | `hairpin` | which endpoints need a chain of their own, for they may be their own clients |
//! | `dispatch` | the trees that lead a packet to its service port |
//! | `base` | what is there without any service: fixed chains, jumps from built-in chains |
//! | `planner` | moves of service ports → changes of chains |
//! | `compare` | what the kernel holds against what is wanted → changes of chains |

mod balance;
mod base;
mod compare;
mod dispatch;
mod hairpin;
mod names;
mod planner;
mod service;
#[cfg(test)]
mod tests;

pub use base::{BuiltinRule, NFACCT_CT_INVALID, Place, builtin_rules};
pub use compare::{Comparison, Desired};
pub use names::is_dispatch_chain;
pub use planner::Planner;
pub use service::NFACCT_LOCALHOST;
