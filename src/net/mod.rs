//! Vocabulary that every stage shares: families, protocols, names, endpoints, CIDRs and the stable hash.
//!
//! Nothing here knows Kubernetes objects, kernel objects or I/O.

mod endpoint;
mod family;
mod hash;
mod names;
mod parse;
mod protocol;

pub use endpoint::Endpoint;
pub use family::{Family, PerFamily};
pub use hash::{base32_sha256, stable_hash64};
pub use names::{ObjectName, ServicePortName};
pub use parse::{parse_cidr, parse_ip};
pub use protocol::Protocol;
