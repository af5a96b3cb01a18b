//! The faces: `weir proxy`, `weir diff`, `weir cleanup`, `weir demo`.
//!
//! What was typed ([`options`]) and what it means ([`settle`]) are two steps: parsing only validates, settling asks the
//! system, once. A command says what is wrong in one line that names the thing, the value and the remedy, before it
//! touches anything in the kernel.

pub mod accounting;
pub mod cleanup;
mod colour;
pub mod demo;
pub mod diff;
mod duration;
mod live;
mod logging;
pub mod options;
pub mod proxy;
pub mod settle;
mod usage;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A service proxy for Linux: connections to a service address reach one of its endpoints.
#[derive(Debug, Parser)]
#[command(name = "weir", version, disable_help_subcommand = true, args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run as the service proxy of this node
    Proxy(Box<proxy::ProxyArgs>),
    /// Show what would change in the kernel, and change nothing
    Diff(Box<diff::DiffArgs>),
    /// Remove everything that weir or kube-proxy left in the kernel
    #[command(long_about = cleanup::ABOUT)]
    Cleanup(cleanup::CleanupArgs),
    /// Build a small node in namespaces and send it real connections; needs no root and no cluster
    Demo(demo::DemoArgs),
}

/// Why a command cannot go on: one line for the person who typed it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Failure(message.into())
    }

    /// Prints it. A terminal that is gone cannot be told.
    fn tell(&self) {
        let _ = writeln!(io::stderr(), "Error: {self}");
    }
}

/// Runs the command line and returns the exit code: 1 for every error, but 2 for those of `weir diff`, whose 1 means
/// that there are differences (the other way around with its `--detailed-exitcode`).
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args = usage::normalise(args);
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage::explain(&error, &args),
    };
    let result = match cli.command {
        Command::Proxy(args) => proxy::run(*args).map(|()| ExitCode::SUCCESS),
        Command::Diff(args) => return diff::run(*args),
        Command::Cleanup(args) => cleanup::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Demo(args) => demo::run(args),
    };
    result.unwrap_or_else(|failure| {
        failure.tell();
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
