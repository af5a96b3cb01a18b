//! Somebody else changes the kernel's rules, and it is noticed: with real tools on a real kernel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "watch/cost.rs"]
mod cost;
#[path = "watch/namespace.rs"]
mod namespace;
#[path = "watch/writer.rs"]
mod writer;
