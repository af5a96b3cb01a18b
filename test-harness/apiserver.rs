//! A real API server: etcd and kube-apiserver on the node's loopback, weir beside them, and real connections.
//!
//! `KUBEBUILDER_ASSETS` names the folder of the two programs, as in Kubernetes' own test environments. Where it does not,
//! the suite is skipped and says so, and the scripted API server (suites `kube_source` and `node`) stands in.
//!
//! ```text
//! KUBEBUILDER_ASSETS=/usr/local/kubebuilder/bin cargo test --test apiserver
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod program;

#[allow(dead_code, reason = "the suite node uses more of it")]
#[path = "node/process.rs"]
mod process;

#[path = "apiserver/admin.rs"]
mod admin;
#[path = "apiserver/control_plane.rs"]
mod control_plane;
#[path = "apiserver/http.rs"]
mod http;
#[path = "apiserver/objects.rs"]
mod objects;
#[path = "apiserver/world.rs"]
mod world;

#[path = "apiserver/outages.rs"]
mod outages;
#[path = "apiserver/reports.rs"]
mod reports;
#[path = "apiserver/rights.rs"]
mod rights;
#[path = "apiserver/serving.rs"]
mod serving;
