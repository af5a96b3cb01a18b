//! `weir` as it is typed: what it prints, how it exits, and that nothing is touched when something is wrong.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod program;

#[path = "cli/colour.rs"]
mod colour;
#[path = "cli/configuration.rs"]
mod configuration;
#[path = "cli/difference.rs"]
mod difference;
#[path = "cli/habits.rs"]
mod habits;
#[path = "cli/ipvs.rs"]
mod ipvs;
#[path = "cli/mistakes.rs"]
mod mistakes;
#[path = "cli/saved.rs"]
mod saved;
#[path = "cli/untouched.rs"]
mod untouched;
