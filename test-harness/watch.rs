//! Somebody else changes the kernel's rules, and it is noticed: with real tools on a real kernel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "watch/fixture.rs"]
mod fixture;
#[path = "watch/namespace.rs"]
mod namespace;
#[path = "watch/writer.rs"]
mod writer;

#[path = "watch/addresses.rs"]
mod addresses;
#[path = "watch/cost.rs"]
mod cost;
#[path = "watch/legacy.rs"]
mod legacy;
#[path = "watch/ours.rs"]
mod ours;
#[path = "watch/tools.rs"]
mod tools;
