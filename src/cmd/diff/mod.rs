//! `weir diff`: what would change, and nothing changes.
//!
//! It prints the very [`Changes`](crate::kernel::xtables::Changes) that `weir proxy` would apply at its start.

mod facts;
mod grouping;
mod json;
mod kernel;
mod lines;
mod text;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgAction, Args, ValueEnum};

use super::colour::Colour;
use super::options::{LogOptions, PacingOptions, RuleOptions, SourceOptions};
use super::settle::{self, HostFacts};
use super::{Failure, live};
use crate::kernel::xtables::order::scripts;
use crate::kernel::xtables::variant::Variant;
use crate::kernel::xtables::{Changes, Match};
use crate::net::{Family, PerFamily};
use crate::plan::iptables::Desired;
use kernel::Against;

/// How the difference is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Unified-diff style, grouped by service
    #[default]
    Text,
    /// One JSON object with a schema version
    Json,
    /// What would be fed to iptables-restore and ip6tables-restore
    Restore,
}

/// What can be typed after `weir diff`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Difference")]
pub struct DiffArgs {
    /// Compare with the kernel (`live`), with nothing (`empty`), or with a file that iptables-save wrote
    #[arg(long, value_name = "live|empty|FILE", default_value = "live")]
    pub against: String,
    /// Rules of IPv6 that ip6tables-save wrote, beside `--against FILE`
    #[arg(long, value_name = "FILE")]
    pub against_ipv6: Option<PathBuf>,
    /// How to write the difference
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
    /// When to colour
    #[arg(long, value_enum, default_value_t)]
    pub color: Colour,
    /// Exit 0 for no difference, 1 for an error, 2 for differences (default: 0, 2, 1)
    #[arg(long, action = ArgAction::SetTrue)]
    pub detailed_exitcode: bool,
    /// Only the exit code
    #[arg(long, short, action = ArgAction::SetTrue)]
    pub quiet: bool,
    /// How long to wait for an API server
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::duration::parse)]
    pub timeout: std::time::Duration,
    #[command(flatten)]
    pub source: SourceOptions,
    #[command(flatten)]
    pub rules: RuleOptions,
    /// The command line of `weir proxy` works here as it is; these are checked and have no effect.
    #[command(flatten)]
    pub pacing: PacingOptions,
    #[command(flatten)]
    pub log: LogOptions,
}

/// Runs, and maps the outcome to the exit code that was asked for.
pub fn run(args: DiffArgs) -> ExitCode {
    args.log.start_quiet();
    let (different, error) = if args.detailed_exitcode { (2, 1) } else { (1, 2) };
    match difference(&args).and_then(|(changes, variant)| {
        if !args.quiet {
            print(&args, &changes, variant)?;
        }
        Ok(changes.is_empty())
    }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(different),
        Err(failure) => {
            failure.tell();
            ExitCode::from(error)
        }
    }
}

fn difference(args: &DiffArgs) -> Result<(Changes, Variant), Failure> {
    settle::check(&args.rules)?;
    args.pacing.settle(args.rules.proxy_mode)?;
    let node_name = settle::node_name(&args.source)?;
    let source = args.source.choice()?;
    settle::check_mode(&args.rules)?;
    let mut against = Against::open(&args.against, args.against_ipv6.as_deref(), || live::open_as(&args.rules))?;
    let families = against.families();
    if matches!(against, Against::Live(_)) {
        settle::check_families(&args.rules, &families)?;
    }
    let facts = facts::read(&source, &node_name, args.timeout)?;
    let model = facts::model(&facts, node_name, &families);
    let host = HostFacts { accounting: against.accounting(), ..HostFacts::read()? };
    let settings = Arc::new(settle::settings(&args.rules, facts.node(), &host));
    let (desired, _) = Desired::plan(&settings, &families, &model);
    let mut comparison = desired.compare();
    against.show(&mut comparison)?;
    Ok((comparison.finish(), against.variant(args.rules.iptables_variant)))
}

fn print(args: &DiffArgs, changes: &Changes, variant: Variant) -> Result<(), Failure> {
    let choice = args.color.choice(&io::stdout());
    let mut out = io::BufWriter::new(anstream::AutoStream::new(io::stdout(), choice));
    let written = match args.output {
        Output::Text => text::write(&mut out, &grouping::group(changes)),
        Output::Json => json::write(&mut out, &grouping::group(changes)),
        Output::Restore => return write_restore(&mut out, changes, variant),
    };
    finish(written.and_then(|()| out.flush()))
}

/// The restore input of each family, under a comment that names the tool. Accounting objects that rules name are made
/// by `weir proxy` before; here, a comment names them.
fn write_restore(out: &mut impl Write, changes: &Changes, variant: Variant) -> Result<(), Failure> {
    let scripts = scripts(changes, variant).map_err(|error| Failure::new(error.to_string()))?;
    let mut write = || {
        for object in accounting_objects(changes) {
            writeln!(out, "# nfacct add {object}")?;
        }
        for script in &scripts {
            let tool = if script.family == Family::V4 { "iptables-restore" } else { "ip6tables-restore" };
            writeln!(out, "# {tool} --noflush")?;
            script.write_to(&mut *out)?;
        }
        out.flush()
    };
    finish(write())
}

fn accounting_objects(changes: &Changes) -> BTreeSet<&str> {
    let rules = changes.chains.values().flat_map(|change| change.after.iter().flatten());
    let matches = rules.flat_map(|rule| &rule.matches);
    matches.filter_map(|m| if let Match::Nfacct(name) = m { Some(&**name) } else { None }).collect()
}

/// A reader that went away (`weir diff | head`) is no error.
fn finish(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::new(format!("cannot write the difference: {error}"))),
    }
}

/// Both flags per family, for [`resolve`](crate::resolve::Options).
fn enabled(families: &[Family]) -> PerFamily<bool> {
    PerFamily::new(|family| families.contains(&family))
}
