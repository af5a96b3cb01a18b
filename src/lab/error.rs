//! What can go wrong in the lab.

use std::io;

/// The lab could not be built or used.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error(
        "no right to make a network namespace for {host}: run as root, or as an ordinary user through `weir demo` or \
         `unshare --user --map-root-user --net --mount`"
    )]
    Forbidden { host: String },
    #[error("{host}: cannot {action}: {source}")]
    Io { host: String, action: String, source: io::Error },
    #[error("{host}: the kernel refused to {action}: {source}")]
    Netlink { host: String, action: String, source: rtnetlink::Error },
    #[error("{host}: cannot {action}: {reason}")]
    Route { host: String, action: String, reason: String },
    #[error("the network {net} has no room for host number {number}")]
    NetworkFull { net: ipnet::IpNet, number: u128 },
    #[error("{host}: {command} failed with {status}: {stderr}")]
    Command { host: String, command: String, status: std::process::ExitStatus, stderr: String },
    #[error("{host}: its thread has ended")]
    Gone { host: String },
    #[error("the test {test} failed in a user namespace of its own:\n{output}")]
    Rerun { test: String, output: String },
}

impl LabError {
    /// For `map_err`: names the host and what was tried.
    pub(super) fn io(host: &str, action: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
        move |source| LabError::Io { host: host.to_owned(), action: action.into(), source }
    }
}
