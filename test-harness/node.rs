//! `weir proxy` as a process on a node of its own, from start to SIGTERM.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api_server;
mod program;

#[path = "node/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "this suite asks for pages only")]
#[path = "apiserver/http.rs"]
mod http;
#[path = "node/process.rs"]
mod process;
#[path = "node/tools.rs"]
mod tools;

#[path = "node/busy.rs"]
mod busy;
#[path = "node/drift.rs"]
mod drift;
#[path = "node/folder.rs"]
mod folder;
#[path = "node/host.rs"]
mod host;
#[path = "node/ipvs.rs"]
mod ipvs;
#[path = "node/kubernetes.rs"]
mod kubernetes;
#[path = "node/life.rs"]
mod life;
#[path = "node/refusals.rs"]
mod refusals;
#[path = "node/size.rs"]
mod size;
