//! `weir proxy`: the service proxy of a node, in the foreground. SIGTERM leaves all rules in place.

mod config_file;
mod facts;
mod fit;
mod flows;
mod gate;
mod keeper;
mod life;
mod memory;
mod mode;
mod node;
mod outside;
mod pages;
mod readings;
mod signals;
mod source;

use clap::Args;

pub use node::{NodeConfig, Observers, RunningNode};
pub use source::{Opened, Origin, open};

use super::logging::Loudness;
use super::options::ProxyOptions;
use super::settle::{Action, Completed};
use super::{Failure, cleanup, write_config};

/// What can be typed after `weir proxy`.
#[derive(Debug, Args)]
pub struct ProxyArgs {
    #[command(flatten)]
    pub options: ProxyOptions,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// One line. Whatever is wrong with flags, permissions, tools or the source's credentials is found before anything in
/// the kernel is touched.
pub fn run(args: ProxyArgs) -> Result<(), Failure> {
    if args.options.tell_version()? {
        return Ok(());
    }
    args.options.tell_deprecated();
    let completed = Completed::read(&args.options)?;
    completed.start_logging(Loudness::Running)?;
    completed.validate()?;
    if let Some(path) = args.options.write_config_to() {
        return write_config::write(completed.config(), path);
    }
    let settled = completed.settle()?;
    match settled.action {
        Action::Cleanup => {
            let excluded: Vec<_> = settled.rules.ipvs.exclude_cidrs().collect();
            cleanup::everything(&excluded)
        }
        Action::InitOnly | Action::Serve => life::run(args.options, settled),
    }
}
