//! Real packets: connections through a real kernel, against rules that weir wrote.
//!
//! Every test runs once for each variant of iptables, with both families in one lab. Three parts:
//!
//! * `scenarios`: the packets of `rules/scenarios` and their verdicts, the list that the oracle and the tracer are held
//!   against too.
//! * `services` to `lifetime`: a running node, seen by its clients.
//! * `takeover`: a node where kube-proxy has been.
//!
//! [`seen`] says what a client can see, [`world`] is the lab with a running weir, [`manifests`] writes its facts.
//! What needs root or iptables says SKIPPED where they are missing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "packets/balance.rs"]
mod balance;
#[path = "packets/egress.rs"]
mod egress;
#[path = "packets/fixture.rs"]
mod fixture;
#[path = "packets/hairpin.rs"]
mod hairpin;
#[path = "packets/judge.rs"]
mod judge;
#[path = "packets/kube_proxy.rs"]
mod kube_proxy;
#[allow(dead_code, reason = "the suite handover uses more of it")]
#[path = "packets/left.rs"]
mod left;
#[path = "packets/lifetime.rs"]
mod lifetime;
#[allow(dead_code, reason = "the suite ipvs uses more of it")]
#[path = "packets/manifests.rs"]
mod manifests;
#[path = "packets/node.rs"]
mod node;
#[path = "packets/policies.rs"]
mod policies;
#[path = "packets/scenarios.rs"]
mod scenarios;
#[path = "packets/seen.rs"]
mod seen;
#[path = "packets/served.rs"]
mod served;
#[path = "packets/services.rs"]
mod services;
#[path = "packets/stream.rs"]
mod stream;
#[path = "packets/takeover.rs"]
mod takeover;
#[path = "packets/udp.rs"]
mod udp;
#[path = "packets/variants.rs"]
mod variants;
#[path = "packets/world.rs"]
mod world;
