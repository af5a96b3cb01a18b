//! `weir demo`.

use std::process::ExitCode;

use clap::Args;

use super::Failure;

/// What can be typed after `weir demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {}

/// Runs.
pub fn run(_args: DemoArgs) -> Result<ExitCode, Failure> {
    Ok(ExitCode::SUCCESS)
}
