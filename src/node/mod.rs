//! What this node is: its addresses and primary family, which traffic is its pods', whether the configuration fits it,
//! how long its Node object is waited for, and what is told when the object changes. All of it is pure.
//!
//! | file | question | contract |
//! |---|---|---|
//! | `addresses` | which address has the node in each family, and which family comes first | 1.11, 1.12, 1.14 |
//! | `detector` | how is traffic of local pods told from other traffic | 1.15 |
//! | `sanity` | does the configuration fit the node | 1.13 |
//! | `waiting` | may we begin | 1.10 |
//! | `news` | what of the Node object has changed | 1.10 |
//!
//! kube-proxy decides all this once, at its start, and ends where its Node's pod networks change. Here it is asked again
//! whenever the Node object or the host changes, and rules follow.

mod addresses;
mod detector;
mod news;
mod sanity;
mod waiting;

pub use addresses::{HINT_LOOPBACK, NoPrimaryFamily, NodeAddresses, primary_supported};
pub use detector::{Detection, detectors, uncovered};
pub use news::{News, NodeLog};
pub use sanity::{Configuration, Incorrect, Warning, families, node_ports};
pub use waiting::{Limits, NodeTimeout, Step, Told, Waiting, WaitsFor};
