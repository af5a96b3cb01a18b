//! IPVS, in a kernel that has it: the one at hand for root, else that of a machine which is booted for the suite.
//!
//! Without libtest: the program is its own runner, on the host and in the machine. `cargo test --test ipvs` boots once,
//! or two machines side by side where the host has room for them, and not at all for `--list` or where no case has the name that was asked for.
//! Each case is a process with a network namespace of its own.
//!
//! A module of cases has `pub fn all() -> Vec<(&'static str, fn())>` and a line in [`cases`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "ipvs/archive.rs"]
mod archive;
#[path = "ipvs/arguments.rs"]
mod arguments;
#[path = "ipvs/machine.rs"]
mod machine;
#[path = "ipvs/machines.rs"]
mod machines;
#[path = "ipvs/runner.rs"]
mod runner;
#[path = "ipvs/shards.rs"]
mod shards;
#[path = "ipvs/tally.rs"]
mod tally;

mod program;

#[allow(dead_code, reason = "the suite node uses more of it")]
#[path = "node/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with another suite")]
#[path = "packets/shared.rs"]
mod shared;

#[path = "ipvs/cleanup.rs"]
mod cleanup;
#[path = "ipvs/diff.rs"]
mod diff;
#[path = "ipvs/draining.rs"]
mod draining;
#[path = "ipvs/egress.rs"]
mod egress;
#[path = "ipvs/link.rs"]
mod link;
#[path = "ipvs/node.rs"]
mod node;
#[path = "ipvs/packets.rs"]
mod packets;
#[path = "ipvs/proxied.rs"]
mod proxied;
#[path = "ipvs/refusals.rs"]
mod refusals;
#[path = "ipvs/schedulers.rs"]
mod schedulers;
#[path = "ipvs/servers.rs"]
mod servers;
#[path = "ipvs/smoke.rs"]
mod smoke;
#[path = "ipvs/switching.rs"]
mod switching;
#[path = "ipvs/switching_talk.rs"]
mod switching_talk;
#[path = "ipvs/switching_tools.rs"]
mod switching_tools;
#[path = "ipvs/sysctl.rs"]
mod sysctl;
#[path = "ipvs/takeover.rs"]
mod takeover;
#[path = "ipvs/takeover_left.rs"]
mod takeover_left;
#[path = "ipvs/traffic.rs"]
mod traffic;

use std::process::ExitCode;

use arguments::Arguments;
use machine::NoMachine;
use runner::Case;
use shards::Shard;
use shared::manifests;
use tally::Tally;
use weir::kernel::netlink::{Answer, Batch, Protocol, Socket, flags};

/// The cases of a module.
type Cases = Vec<(&'static str, fn())>;

fn cases() -> Vec<Case> {
    let modules: [(&str, Cases); 15] = [
        ("cleanup", cleanup::all()),
        ("diff", diff::all()),
        ("draining", draining::all()),
        ("egress", egress::all()),
        ("link", link::all()),
        ("node", node::all()),
        ("packets", packets::all()),
        ("refusals", refusals::all()),
        ("schedulers", schedulers::all()),
        ("servers", servers::all()),
        ("smoke", smoke::all()),
        ("switching", switching::all()),
        ("sysctl", sysctl::all()),
        ("takeover", takeover::all()),
        ("traffic", traffic::all()),
    ];
    let named = |(module, cases): (&str, Cases)| {
        cases.into_iter().map(|(name, case)| (format!("{module}::{name}"), case)).collect::<Vec<_>>()
    };
    modules.into_iter().flat_map(named).collect()
}

fn main() -> ExitCode {
    let cases = cases();
    if let Ok(name) = std::env::var(runner::CASE) {
        tracing_subscriber::fmt().with_env_filter("debug").with_ansi(false).init();
        runner::play(&name, &cases);
        return ExitCode::SUCCESS;
    }
    let given: Vec<String> = std::env::args().skip(1).collect();
    let arguments = match Arguments::read(given.iter().cloned()) {
        Ok(arguments) => arguments,
        Err(flag) => {
            eprintln!("ipvs: what is {flag}?");
            return ExitCode::FAILURE;
        }
    };
    let chosen: Vec<&Case> = cases.iter().filter(|(name, _)| arguments.wants(name)).collect();
    if arguments.list {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Ok(shard) = std::env::var(machine::INSIDE) {
        let shard: Shard = shard.parse().expect("which machine this is");
        return tell(&shard.cases(&chosen), &arguments);
    }
    let mut tally = Tally::begin(chosen.len(), cases.len());
    if chosen.is_empty() || (nix::unistd::geteuid().is_root() && kernel_has_ipvs()) {
        runner::run(&chosen, &arguments, |name, line, outcome| {
            println!("{line}");
            tally.count(name, outcome);
        });
    } else if let Err(NoMachine(why)) = machines::run(&chosen, &given, &arguments, &mut tally) {
        weir::lab::skipped(&format!("ipvs: this kernel has no IPVS (or this is not root), and no machine: {why}"));
        return ExitCode::SUCCESS;
    }
    if tally.end() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs these cases in a machine, for the host to hear: what a failed one printed comes before the line that it is over.
fn tell(cases: &[&Case], arguments: &Arguments) -> ExitCode {
    runner::run(cases, arguments, |_, line, outcome| {
        if let Some(printed) = outcome {
            println!("{}", printed.trim_end());
        }
        println!("{line}");
    });
    ExitCode::SUCCESS
}

/// Whether generic netlink has the family `IPVS`. To ask for it loads its module.
fn kernel_has_ipvs() -> bool {
    /// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY` and `CTRL_ATTR_FAMILY_NAME` of uapi `linux/genetlink.h`.
    const CONTROLLER: u16 = 16;
    const GET_FAMILY: u8 = 3;
    const FAMILY_NAME: u16 = 2;
    let Ok(mut socket) = Socket::open(Protocol::Generic) else { return false };
    let mut batch = Batch::new("ask for IPVS");
    batch.message(CONTROLLER, flags::ACK, |body| {
        body.raw(&[GET_FAMILY, 1, 0, 0]).put_text(FAMILY_NAME, "IPVS");
    });
    let mut found = false;
    let asked = socket.transact(&mut batch, |_, answer| found |= matches!(answer, Answer::Message(_)));
    asked.is_ok() && found
}
