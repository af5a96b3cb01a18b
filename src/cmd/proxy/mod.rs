//! `weir proxy`: the service proxy of a node, in the foreground. SIGTERM leaves all rules in place.

mod facts;
mod flows;
mod node;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

pub use node::{NodeConfig, RunningNode};

use super::options::{LogOptions, PacingOptions, RuleOptions, SourceOptions};
use super::{Failure, live, settle};
use crate::engine::{Pacing, RepairMode};
use crate::source::{self, Updates};

/// What can be typed after `weir proxy`.
#[derive(Debug, Args)]
pub struct ProxyArgs {
    #[command(flatten)]
    pub source: SourceOptions,
    #[command(flatten)]
    pub rules: RuleOptions,
    #[command(flatten)]
    pub pacing: PacingOptions,
    #[command(flatten)]
    pub log: LogOptions,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// One line. Whatever is wrong with flags, permissions, tools or the source's credentials is found before anything in
/// the kernel is touched.
pub fn run(args: ProxyArgs) -> Result<(), Failure> {
    args.log.start();
    settle::check(&args.rules)?;
    let pacing = pacing(&args.pacing)?;
    let node_name = settle::node_name(&args.source)?;
    let driver = live::open(args.rules.iptables_variant)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let updates = open_source(&args.source, &node_name).await?;
        let config = NodeConfig { node_name, rules: args.rules, pacing };
        let node = RunningNode::start(config, driver, updates)?;
        tracing::info!("running; SIGTERM stops and leaves the rules");
        node.until(stop_signal()).await
    })
}

/// The periods, checked (contract 1.6).
fn pacing(options: &PacingOptions) -> Result<Pacing, Failure> {
    let (min, sync) = (options.iptables_min_sync_period, options.iptables_sync_period);
    if sync.is_zero() {
        return Err(Failure::new("--iptables-sync-period must be more than 0"));
    }
    if min > sync {
        return Err(Failure::new(format!(
            "--iptables-sync-period {sync:?} must be greater than or equal to --iptables-min-sync-period {min:?}"
        )));
    }
    let mut pacing = Pacing::new(min, sync);
    if options.drift_report_only {
        pacing.drift = RepairMode::ReportOnly;
    }
    Ok(pacing)
}

/// Starts the source that was typed.
///
/// # Errors
/// An unreadable folder, a bad kubeconfig, no cluster around: one line that names it.
pub async fn open_source(options: &SourceOptions, node_name: &std::sync::Arc<str>) -> Result<Updates, Failure> {
    if let Some(dir) = &options.manifests {
        let config = source::manifest::Config { dir: dir.clone(), node_name: node_name.clone() };
        let (updates, _) = source::manifest::start(config).map_err(|error| Failure::new(error.to_string()))?;
        return Ok(updates);
    }
    let config = kube_config(options, node_name);
    let client = source::kube::connect(&config).await.map_err(|error| Failure::new(error.to_string()))?;
    let (updates, _) = source::kube::start(&client, &config);
    Ok(updates)
}

fn kube_config(options: &SourceOptions, node_name: &str) -> source::kube::Config {
    let mut config = source::kube::Config::new(node_name);
    config.kubeconfig = options.kubeconfig.clone();
    config.master = options.master.clone();
    config
}

/// Ready at SIGTERM or SIGINT. A signal that cannot be listened for keeps its default, which ends the process and
/// leaves the rules as well.
async fn stop_signal() {
    let wait = async |kind| match signal(kind) {
        Ok(mut stream) => {
            stream.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "cannot listen for a signal");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => tracing::info!("SIGTERM: stopping; rules stay"),
        () = wait(SignalKind::interrupt()) => tracing::info!("SIGINT: stopping; rules stay"),
    }
}
