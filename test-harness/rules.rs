//! Judges of the rules: checked output that people can review, and packets that are followed through the rules.
//!
//! | module | judge |
//! |---|---|
//! | `goldens` | the text of the rules is what `rules/` says |
//! | `scenarios` | every packet of `rules/scenarios` meets its verdict, in both modes |
//! | `random` | for random clusters and packets, rules and oracle agree, in both modes |
//! | `cost` | few rules are tested in large clusters |
//! | `text` | rows of the catalogue about texts and numbers |
//!
//! All of them look at rules that were planned, encoded, ordered, and interpreted by a simulated kernel; in IPVS mode at
//! virtual servers, too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "rules/brief.rs"]
mod brief;
#[path = "cluster/mod.rs"]
mod cluster;
#[path = "rules/cost.rs"]
mod cost;
#[path = "rules/goldens.rs"]
mod goldens;
#[path = "rules/ipvs.rs"]
mod ipvs;
#[path = "rules/ipvs_text.rs"]
mod ipvs_text;
#[path = "rules/kernel.rs"]
mod kernel;
#[path = "rules/packets.rs"]
mod packets;
#[path = "rules/proxy.rs"]
mod proxy;
#[path = "rules/random.rs"]
mod random;
#[path = "rules/render.rs"]
mod render;
#[path = "rules/scenarios.rs"]
mod scenarios;
#[path = "rules/text.rs"]
mod text;
