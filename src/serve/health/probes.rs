//! Which page somebody asked for.

use http::StatusCode;

/// A page of the health server; kube-proxy counts the answers of each by code (contract 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    Healthz,
    Livez,
}

/// Told of every answer to a probe. It must not block.
pub type OnProbe = Box<dyn Fn(Probe, StatusCode) + Send + Sync>;
