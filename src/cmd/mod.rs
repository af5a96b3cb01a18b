//! The faces: `weir proxy`, `weir diff`, `weir cleanup`, `weir demo`, and the descriptions of them for shells and manuals.
//!
//! What was typed ([`options`]), what that means together with file and defaults ([`config`](crate::config)) and what it
//! means on this host ([`settle`]) are steps of their own: parsing knows one value at a time, completing and validating all
//! of them, settling asks the system, once. A command says what is wrong in one line that names the thing, the value and the remedy, before it
//! touches anything in the kernel.

pub mod accounting;
pub mod cleanup;
mod colour;
pub mod demo;
mod describe;
pub mod diff;
mod duration;
mod live;
pub mod logging;
pub mod notify;
pub mod options;
pub mod proxy;
pub mod settle;
mod usage;
mod write_config;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
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
    /// Print completions for a shell
    Completions(describe::CompletionsArgs),
    /// Print the manual page of a command, in roff
    Manpage(describe::ManpageArgs),
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

/// What was typed, as if the program was called by its own name: called `kube-proxy`, it is `weir proxy`.
pub fn arguments(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let called = args.first().and_then(|name| Path::new(name).file_name());
    if called.is_some_and(|name| name == "kube-proxy") {
        args.splice(..1, ["weir".into(), "proxy".into()]);
    }
    args
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
        Command::Completions(args) => describe::completions(args).map(|()| ExitCode::SUCCESS),
        Command::Manpage(args) => describe::manpage(&args).map(|()| ExitCode::SUCCESS),
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
