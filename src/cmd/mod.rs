//! The faces: `weir proxy`, `weir diff`, `weir demo`.
//!
//! What was typed ([`options`]) and what it means ([`settle`]) are two steps: parsing only validates, settling asks the
//! system, once. A command says what is wrong in one line that names the thing, the value and the remedy, before it
//! touches anything in the kernel.

pub mod demo;
pub mod diff;
mod duration;
mod live;
mod logging;
pub mod options;
pub mod proxy;
pub mod settle;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

/// A service proxy for Linux: connections to a service address reach one of its endpoints.
#[derive(Debug, Parser)]
#[command(name = "weir", version, disable_help_subcommand = true)]
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
}

/// Runs the command line and returns the exit code: 1 for every error, or 2 for those of `weir diff`, whose 1 means
/// that there are differences.
pub fn main(args: Vec<String>) -> ExitCode {
    let is_diff = args.get(1).is_some_and(|arg| arg == "diff");
    let cli = match Cli::try_parse_from(normalise(args)) {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error, is_diff),
    };
    let result = match cli.command {
        Command::Proxy(args) => proxy::run(*args).map(|()| ExitCode::SUCCESS),
        Command::Diff(args) => return diff::run(*args),
        Command::Demo(args) => demo::run(args),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("Error: {failure}");
        ExitCode::FAILURE
    })
}

/// Underscores in flag names are dashes, as kube-proxy has it (contract 1.1).
fn normalise(args: Vec<String>) -> Vec<String> {
    args.into_iter()
        .map(|arg| match (arg.starts_with("--"), arg.split_once('=')) {
            (true, Some((flag, value))) => format!("{}={value}", flag.replace('_', "-")),
            (true, None) => arg.replace('_', "-"),
            _ => arg,
        })
        .collect()
}

fn usage_error(error: &clap::Error, is_diff: bool) -> ExitCode {
    // Printing can only fail if the terminal is gone, and then there is nobody to tell.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ if is_diff => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn underscores_are_dashes_in_names_only() {
        let args = normalise(["weir", "proxy", "--proxy_mode=a_b", "--cluster_cidr", "a_b"].map(String::from).into());
        assert_eq!(args, ["weir", "proxy", "--proxy-mode=a_b", "--cluster-cidr", "a_b"]);
    }
}
