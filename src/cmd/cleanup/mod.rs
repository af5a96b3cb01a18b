//! `weir cleanup`, and what `--cleanup` does: everything goes that kube-proxy or weir left, in any mode, and nothing else.
//!
//! There is no code that knows what to clean up: it is a plan of nothing, compared with what the kernel holds. What is
//! listed is what is removed.
//!
//! | file | what |
//! |---|---|
//! | `node` | the kernel, opened as far as it has anything that could hold leftovers |
//! | `find` | what goes: both kinds of iptables tables, sets, virtual servers, the device, nftables tables, accounting objects |
//! | `told` | why something stays, in words |
//! | `remove` | and now it goes |
//!
//! Kernel parameters stay as they are, as kube-proxy leaves them, and so do the kubelet's chains with our rule in
//! `KUBE-FIREWALL`, which the kubelet makes too.

mod find;
mod node;
mod remove;
#[cfg(test)]
mod tests;
mod told;

use std::io::{self, Write};

use clap::{ArgAction, Args, ValueEnum};
use ipnet::IpNet;

use super::colour::Colour;
use super::diff::grouping::Grouped;
use super::diff::owners::Owners;
use super::diff::{finish, json, text};
use super::logging::Loudness;
use super::options::ProxyOptions;
use super::settle::Completed;
use super::{Failure, live};
use crate::config;
use crate::kernel::nftables::{KUBE_PROXY_TABLE, NftTables, Tables};
use find::Leftovers;
use node::Node;

/// What the error begins with, as kube-proxy's does (contract 1.7).
const PHRASE: &str = "encountered an error while tearing down rules";

/// For the help.
pub const ABOUT: &str = "Removes everything that kube-proxy (in iptables, ipvs or nftables mode) or weir left on this node: \
    chains and rules of both iptables variants, virtual servers, ipsets, the device kube-ipvs0, the nftables tables \
    `kube-proxy`, accounting objects. Needs no API server.\n\n\
    What is not theirs stays: chains of the kubelet and of network plugins, an administrator's rules, other virtual \
    servers, sets and tables. Where such a rule leads to a chain that should go, that chain stays too, the rule is named, \
    and the exit code is 1. Kernel parameters stay as they are.\n\n\
    Stop the proxy first: one that runs puts everything back. Services are not served any more, and connections that are \
    open break. To change from one proxy to another, do not clean up: start the other one.";

/// How the list is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// As `weir diff` writes it
    #[default]
    Text,
    /// One JSON object, as `weir diff --output json` writes it
    Json,
}

/// What can be typed after `weir cleanup`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cleanup")]
pub struct CleanupArgs {
    /// List what would go, and remove nothing
    #[arg(long, action = ArgAction::SetTrue)]
    pub dry_run: bool,
    /// How to write the list
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
    /// When to colour the list
    #[arg(long, value_enum, default_value_t)]
    pub color: Colour,
    /// Virtual servers at addresses of these networks stay
    #[arg(long, value_name = "CIDR[,CIDR...]", value_delimiter = ',', value_parser = network)]
    pub ipvs_exclude_cidrs: Vec<IpNet>,
    #[command(flatten)]
    pub log: config::LogFlags,
}

fn network(text: &str) -> Result<IpNet, String> {
    crate::net::parse_cidr(text.trim())
        .ok_or_else(|| format!("{text:?} is no CIDR: expected a network such as 10.244.0.0/16 or fd00::/48"))
}

/// Lists or removes, as typed.
///
/// # Errors
/// kube-proxy's phrase, with everything that could not be read or removed and why. All else is gone.
pub fn run(args: &CleanupArgs) -> Result<(), Failure> {
    start_logging(&args.log)?;
    let (mut node, leftovers) = look(&args.ipvs_exclude_cidrs)?;
    let problems = if args.dry_run {
        print(args, &leftovers.grouped())?;
        leftovers.problems()
    } else {
        // As the list ends.
        finish(writeln!(io::stdout(), "{}", text::summary(&leftovers.grouped().summary)))?;
        remove::all(&mut node, leftovers)
    };
    told(&problems)
}

fn start_logging(log: &config::LogFlags) -> Result<(), Failure> {
    let kube_proxy = config::Flags { log: log.clone(), ..config::Flags::default() };
    Completed::read(&ProxyOptions { kube_proxy, ..ProxyOptions::default() })?.start_logging(Loudness::Answering)
}

/// What `--cleanup` of `weir proxy` does. Virtual servers at addresses of these networks stay
/// (`--ipvs-exclude-cidrs`). Works in the network namespace of the calling thread, and blocks.
///
/// # Errors
/// As for [`run`].
pub fn everything(exclude_cidrs: &[IpNet]) -> Result<(), Failure> {
    let (mut node, leftovers) = look(exclude_cidrs)?;
    tracing::info!("cleanup: {}", text::summary(&leftovers.grouped().summary));
    told(&remove::all(&mut node, leftovers))
}

/// Deletes the tables of kube-proxy's nftables mode, and gives how many there were. To be called once when rules of another
/// mode serve (contract 1.7, step 2).
///
/// Until then both serve. Of two chains that could give a new connection its endpoint the kernel asks one first, and the
/// other no more once there is an answer; both know the same services, and a connection keeps the endpoint that it has. The
/// source ranges that kube-proxy knew are kept too. Afterwards nothing answers by endpoints of yesterday any more.
///
/// # Errors
/// A table is there, or may be, and cannot be deleted. It does not keep a proxy from serving: contract 1.7 has it logged.
pub fn remove_nftables_leftovers() -> Result<usize, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("kube-proxy's nftables tables stay: {error}"));
    let Some(mut tables) = NftTables::open().map_err(|error| failed(&error))? else { return Ok(0) };
    let found = tables.observe(KUBE_PROXY_TABLE).map_err(|error| failed(&error))?;
    for table in &found {
        tables.delete(table).map_err(|error| failed(&error))?;
        tracing::info!(table = table.title(), "kube-proxy was here in nftables mode: its table is deleted");
    }
    Ok(found.len())
}

/// Opens the kernel and finds what goes.
fn look(exclude_cidrs: &[IpNet]) -> Result<(Node, Leftovers), Failure> {
    live::check_permission().map_err(|failure| Failure::new(format!("{PHRASE}: {failure}")))?;
    let mut node = Node::open();
    let leftovers = Leftovers::find(&mut node, exclude_cidrs);
    Ok((node, leftovers))
}

fn told(problems: &[String]) -> Result<(), Failure> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("{PHRASE}: {}", problems.join("; "))))
}

fn print(args: &CleanupArgs, grouped: &Grouped<'_>) -> Result<(), Failure> {
    let choice = args.color.choice(&io::stdout());
    let mut out = io::BufWriter::new(anstream::AutoStream::new(io::stdout(), choice));
    let written = match args.output {
        Output::Text => text::write(&mut out, grouped),
        Output::Json => json::write(&mut out, grouped),
    };
    finish(written.and_then(|()| out.flush()))
}

impl Leftovers {
    /// The list, as `weir diff` has it.
    fn grouped(&self) -> Grouped<'_> {
        let mut grouped = Grouped::default();
        let both = self.rules.iter().filter(|(_, removal)| !removal.changes.is_empty()).count() > 1;
        for (variant, removal) in &self.rules {
            grouped.add_rules(&removal.changes, both.then_some(*variant));
        }
        grouped.add_others(&self.others, &Owners::of(&self.planner, &[]));
        grouped.add_tables(&self.tables);
        grouped.add_accounting(self.counters.iter().copied());
        grouped
    }
}
