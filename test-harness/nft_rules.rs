//! Rules as nf_tables expressions, held against the real tools: what weir writes through netlink, every iptables-nft
//! reads, finds and deletes as its own; what they write, weir reads as the same rules.
//!
//! | module | what it checks |
//! |---|---|
//! | `written` | weir writes, the tools read |
//! | `observed` | the tools write, weir reads through netlink what its text decoder reads from `iptables-save` |
//! | `speed` | how long a rule takes; only with `--ignored` |
//!
//! The tools are the installed ones, and those of the folders that the environment variable `WEIR_IPTABLES_VERSIONS`
//! names (`test-harness/iptables-versions` makes them). What cannot run here says SKIPPED.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "nft_rules/cases.rs"]
mod cases;
#[path = "xtables/generate.rs"]
#[allow(dead_code, reason = "the rules are used here, not the changes")]
mod generate;
#[path = "nft_rules/kernel.rs"]
mod kernel;
#[path = "nft_rules/observed.rs"]
mod observed;
#[path = "nft_rules/speed.rs"]
mod speed;
#[path = "nft_rules/tools.rs"]
mod tools;
#[path = "nft_rules/written.rs"]
mod written;
