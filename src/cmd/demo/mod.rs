//! `weir demo`: a node, pods and outside clients in namespaces of this process, weir between them, real connections.
//!
//! | file | what |
//! |---|---|
//! | `run` | the order of things |
//! | `manifests` | the services, as YAML, and the folder that weir follows |
//! | `node` | weir on the node: start, wait, stop |
//! | `steps` | who connects to what, and what is expected |
//! | `events` | an endpoint is replaced, rules are deleted, weir is stopped |
//! | `stage` | the lab with the rules that the kernel holds; makes attempts and notes them |
//! | `attempt`, `fate`, `names` | some connections, what became of them, and who is who |
//! | `rules` | which way the kernel's rules lead a packet |
//! | `table` | what is printed |

mod attempt;
mod events;
mod fate;
mod manifests;
mod names;
mod node;
mod rules;
mod run;
mod stage;
mod steps;
mod table;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Args;

use super::options::{IptablesDriver, VariantChoice};
use super::{Failure, logging};
use crate::config;
use crate::lab::sandbox::{self, Entered};

/// What can be typed after `weir demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Which iptables to write: the legacy tables or those of nf_tables
    #[arg(long, value_enum, default_value_t, value_name = "VARIANT")]
    pub iptables_variant: VariantChoice,
    /// How rules get into the kernel
    #[arg(long, value_enum, default_value_t, value_name = "DRIVER")]
    pub iptables_driver: IptablesDriver,
    /// Log what weir does on the node: 0 to 1 informs, 2 to 4 debugs, 5 and more traces [default: no logs; -v alone: 1]
    #[arg(short = 'v', long = "v", value_name = "LEVEL", num_args = 0..=1, default_missing_value = "1")]
    pub verbosity: Option<u32>,
}

/// Runs; the exit code is 1 if something did not happen as expected.
///
/// # Errors
/// One line: no namespaces to be had, no iptables, or what else keeps the demo from being shown.
pub fn run(args: DemoArgs) -> Result<ExitCode, Failure> {
    // Before anything else: there must be no threads yet.
    match sandbox::enter().map_err(failure)? {
        Entered::Ended(code) => return Ok(ExitCode::from(code)),
        Entered::Inside => {}
    }
    if let Some(verbosity) = args.verbosity {
        let wanted = config::Logging { verbosity, ..config::Config::default().logging };
        logging::start(&wanted, logging::Loudness::Running);
    }
    let as_expected = run::run(args.iptables_variant, args.iptables_driver)?;
    Ok(if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(error.to_string())
}
