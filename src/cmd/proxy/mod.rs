//! `weir proxy`: the service proxy of a node, in the foreground. SIGTERM leaves all rules in place.

mod config_file;
mod facts;
mod flows;
mod gate;
mod keeper;
mod mode;
mod node;
mod source;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use node::{NodeConfig, Observers, RunningNode};
pub use source::{Opened, Origin, open};

use super::logging::Loudness;
use super::options::{ProxyOptions, RuleOptions, SourceChoice};
use super::settle::{Action, Completed, Settled};
use super::{Failure, live, settle, write_config};
use crate::engine::Pacing;
use crate::kernel::xtables::Driver;

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
    let Settled { rules, pacing, node_name, source, action, .. } = completed.settle()?;
    if action != Action::Serve {
        return Err(Failure::new("--cleanup and --init-only are not there yet"));
    }
    let source = source.choice()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let stop = StopSignals::listen()?;
        let opened = source::open(&source, &node_name).await?;
        let driver = live::open_for_writing(&rules)?;
        settle::check_families(&rules, &driver.families())?;
        log_settled(&node_name, &source, &rules, &pacing, &driver);
        let config = NodeConfig { node_name, rules, pacing };
        let node = RunningNode::start(config, driver, opened.updates, Observers::default())?;
        node.until(stop.first()).await
    })
}

/// One line that says what this process is going to do, and one for what it cannot do.
fn log_settled(node: &str, source: &SourceChoice<'_>, rules: &RuleOptions, pacing: &Pacing, driver: &Driver) {
    let families: Vec<&str> = driver.families().iter().map(|family| family.as_str()).collect();
    tracing::info!(
        node,
        %source,
        mode = rules.proxy_mode.as_str(),
        variant = %driver.variant(),
        %driver,
        families = families.join(","),
        detect_local = rules.detect_local_mode.as_str(),
        sync_period = ?pacing.sync_period,
        min_sync_period = ?pacing.min_sync_period,
        version = env!("CARGO_PKG_VERSION"),
        "weir proxy starts; SIGTERM stops it and leaves the rules"
    );
    for doubt in settle::doubts(rules) {
        tracing::warn!("{doubt}");
    }
}

/// SIGTERM and SIGINT. They are caught from here on, also while the program starts.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(format!("cannot listen for signals: {error}")));
        Ok(StopSignals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Ready at the first of them.
    async fn first(mut self) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: stopping after what is being written; the rules stay");
    }
}
