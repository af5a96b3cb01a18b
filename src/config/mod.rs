//! What kube-proxy's flags and its configuration file say, and what they mean together (contract 1.1 to 1.6, 1.16).
//!
//! Pure: no file is read here and nothing is asked of the system.
//!
//! | step | module | what |
//! |---|---|---|
//! | typed | [`Flags`] | kube-proxy's flags, as they were typed |
//! | written | [`Document`] | a `KubeProxyConfiguration`, as it was written; `decode` reads it |
//! | complete | [`complete()`] | flags, file and defaults together: a [`Config`] |
//! | valid | [`Config::validate`] | all that is wrong, in kube-proxy's words |
//! | written back | [`Config::to_yaml`], [`Config::to_json`] | `--write-config-to` and `/configz` |
//!
//! A [`Config`] holds texts as they were given, also after validation: they are written back as they were.

mod complete;
mod decode;
mod defaults;
mod document;
mod duration;
mod emit;
mod encode;
mod flags;
mod gates;
mod quantity;
mod quote;
mod settings;
mod validate;
mod values;

#[cfg(test)]
mod tests;

pub use complete::{CompleteError, Completion, File, complete};
pub use decode::{DecodeError, decode};
pub use document::{API_VERSION, Document, KIND, VmoduleItem};
pub use duration::{DurationError, GoDuration};
pub use flags::{
    ClientFlags, ConfigFlags, ConntrackFlags, EndpointFlags, Flags, GateFlags, IpvsFlags, List, LogFlags, NodeFlags,
    PacingFlags, ProcessFlags, RuleFlags, Vmodule, switch,
};
pub use gates::{FeatureGates, Gate, GateErrors, Stage};
pub use quantity::Quantity;
pub use quote::quote;
pub use settings::{
    ClientConnection, Config, Conntrack, DetectLocal, Iptables, Ipvs, LogFormat, LogOptions, Logging, Nftables,
    Winkernel,
};
pub use validate::{FieldError, Invalid, Subject};

/// The minor version of Kubernetes whose kube-proxy this follows: flags, fields, gates, defaults.
pub const KUBE_PROXY_MINOR: u32 = 36;
