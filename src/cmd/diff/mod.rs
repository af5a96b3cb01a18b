//! `weir diff`: what would change, and nothing changes.
//!
//! It prints the very [`Difference`] that `weir proxy` would apply at its start: rules, and in IPVS mode or with node
//! egress sets, virtual servers and the service device. In iptables mode, what IPVS mode left is in it too.
//!
//! | file | what |
//! |---|---|
//! | `kernel`, `live`, `saved` | what is compared with: flags, the kernel, files |
//! | `facts` | what is wanted |
//! | `grouping`, `lines`, `objects`, `owners` | the difference by services: chains, their lines, all other objects, and whose they are |
//! | `text`, `json`, `restore` | the three forms |
//!
//! Kernel parameters, accounting objects and schedulers are not in it: what `weir proxy` sets of the first it logs, and
//! whether the kernel has a scheduler is found out only by making a virtual server that has it.

mod facts;
pub(super) mod grouping;
pub(super) mod json;
mod kernel;
pub(super) mod lines;
mod live;
mod objects;
pub(super) mod owners;
mod restore;
mod saved;
pub(super) mod text;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgAction, Args, ValueEnum};

use super::Failure;
use super::colour::Colour;
use super::logging::Loudness;
use super::options::{ProxyMode, ProxyOptions};
use super::settle::{self, Completed, HostFacts, Settled};
use crate::engine::now;
use crate::kernel::xtables::variant::Variant;
use crate::model::ServicePort;
use crate::net::{Family, PerFamily};
use crate::plan::iptables::Desired;
use crate::plan::ipvs::{self, Denied, Difference, Goal, Planner, UnixSeconds, obstacles};
use kernel::{Against, AgainstOptions};
use owners::Owners;

/// How the difference is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Unified-diff style, grouped by service
    #[default]
    Text,
    /// One JSON object with a schema version
    Json,
    /// What would be fed to iptables-restore and ip6tables-restore, ipset, ip and ipvsadm, in a safe order
    Restore,
}

/// What can be typed after `weir diff`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Difference")]
pub struct DiffArgs {
    #[command(flatten)]
    pub against: AgainstOptions,
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
    /// The command line of `weir proxy` works here as it is; what has no effect is checked all the same.
    #[command(flatten)]
    pub options: ProxyOptions,
}

/// Runs, and maps the outcome to the exit code that was asked for.
pub fn run(args: DiffArgs) -> ExitCode {
    let (different, error) = if args.detailed_exitcode { (2, 1) } else { (1, 2) };
    let found = settle(&args.options).and_then(|settled| match settled {
        None => Ok(None),
        Some(settled) => Outcome::find(&args, settled).map(Some),
    });
    match found.and_then(|outcome| {
        let Some(outcome) = outcome else { return Ok(true) };
        if !args.quiet {
            outcome.print(&args)?;
        }
        Ok(outcome.difference.is_empty())
    }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(different),
        Err(failure) => {
            failure.tell();
            ExitCode::from(error)
        }
    }
}

/// What was typed, with its file and settled; nothing if that was a question about the version.
fn settle(options: &ProxyOptions) -> Result<Option<Settled>, Failure> {
    if options.tell_version()? {
        return Ok(None);
    }
    options.tell_deprecated();
    let completed = Completed::read(options)?;
    completed.start_logging(Loudness::Answering)?;
    if options.write_config_to().is_some() {
        return Err(Failure::new("--write-config-to: weir diff writes no configuration: use weir proxy"));
    }
    completed.settle().map(Some)
}

/// The difference, with all that is needed to print it.
struct Outcome {
    difference: Difference,
    model: Vec<Arc<ServicePort>>,
    planner: Planner,
    variant: Variant,
    mode: ProxyMode,
}

impl Outcome {
    fn find(args: &DiffArgs, settled: Settled) -> Result<Self, Failure> {
        let Settled { rules: options, node_name, source, .. } = settled;
        let source = source.choice()?;
        let mut against = Against::open(&args.against, &options)?;
        let families = against.families();
        if matches!(against, Against::Live(..)) {
            settle::check_families(&options, &families)?;
        }
        let facts = facts::read(&source, &node_name, args.timeout)?;
        let model = facts::model(&facts, node_name, &families);
        let host = HostFacts { accounting: against.accounting(), ..HostFacts::read()? };
        let settings = Arc::new(settle::settings(&options, facts.node(), &host));
        let observed = against.observe(&families)?;
        let (goal, rules) = match options.proxy_mode {
            ProxyMode::Ipvs => {
                if let Some(obstacle) = obstacles(&observed, &families).first() {
                    return Err(live::cannot_serve(obstacle));
                }
                (Goal::Serve(&model), ipvs::rules(&settings, &families))
            }
            // What it has of sets is that of egress; all else of these families was left by IPVS mode.
            ProxyMode::Iptables => (Goal::Retire, Desired::plan(&settings, &families, &model).0),
        };
        let mut comparison = rules.compare();
        against.show(&mut comparison)?;
        let (mut difference, planner) = ipvs::compare(&settings, &families, goal, &observed, &|_| false, now());
        difference.rules = comparison.finish();
        against.adjust(&mut difference);
        warn_of_denied(&planner);
        Ok(Outcome {
            difference,
            model,
            planner,
            variant: against.variant(options.iptables_variant),
            mode: options.proxy_mode,
        })
    }

    fn print(&self, args: &DiffArgs) -> Result<(), Failure> {
        let choice = args.color.choice(&io::stdout());
        let mut out = io::BufWriter::new(anstream::AutoStream::new(io::stdout(), choice));
        let grouped = || grouping::group(&self.difference, &Owners::of(&self.planner, &self.model));
        let written = match args.output {
            Output::Text => text::write(&mut out, &grouped()),
            Output::Json => json::write(&mut out, &grouped()),
            Output::Restore => restore::write(&mut out, self.mode, &self.difference, self.variant)?,
        };
        finish(written.and_then(|()| out.flush()))
    }
}

/// What `weir proxy` would say and not change.
fn warn_of_denied(planner: &Planner) {
    for (key, port) in planner.denied() {
        tracing::warn!(
            service_port = %port.name,
            family = port.family.as_str(),
            "a service is not served: {}", Denied(*key)
        );
    }
}

/// A time for people, in UTC.
fn deadline(time: UnixSeconds) -> String {
    k8s_openapi::jiff::Timestamp::from_second(time.into()).map_or_else(|_| time.to_string(), |time| time.to_string())
}

/// A reader that went away (`weir diff | head`) is no error.
pub(super) fn finish(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::new(format!("cannot write the difference: {error}"))),
    }
}

/// Both flags per family, for [`resolve`](crate::resolve::Options).
fn enabled(families: &[Family]) -> PerFamily<bool> {
    PerFamily::new(|family| families.contains(&family))
}
