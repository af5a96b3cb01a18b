//! weir on the node: the same engine, source and driver as `weir proxy --manifests`.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Failure, failure};
use crate::cmd::options::{
    DetectLocalMode, EgressOptions, IptablesDriver, IpvsOptions, ProxyMode, RuleOptions, VariantChoice,
};
use crate::cmd::proxy::{NodeConfig, Observers, RunningNode};
use crate::config::FeatureGates;
use crate::engine::{Handle, Pacing, Status};
use crate::kernel::xtables::Driver;
use crate::lab::Host;
use crate::source::manifest;

/// The name of the Node object.
const NODE_NAME: &str = "node";

/// The networks of the lab's pods.
const CLUSTER_CIDRS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/48"];

/// How often the kernel is compared with what is wanted: the default of `weir proxy`.
pub const SYNC_PERIOD: Duration = Duration::from_secs(30);

/// How long rules may take to get into the kernel. It is some milliseconds on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// weir, running on the node.
pub struct Weir {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), Failure>>,
}

impl Weir {
    /// Starts it in the node's network namespace.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(node: &Host, folder: PathBuf, driver: Driver) -> Result<Weir, Failure> {
        let config = config()?;
        let (report, reported) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let serve = move || serve(config, folder, driver, &report, stopped);
        // A thread starts in the network namespace of the one that starts it.
        let started = node.run(|| thread::Builder::new().name("weir".to_owned()).spawn(serve)).map_err(failure)?;
        let thread = started.map_err(|error| failure(format!("cannot start a thread: {error}")))?;
        match reported.recv() {
            Ok(handle) => Ok(Weir { handle, stop, thread }),
            Err(_) => Err(end(thread).err().unwrap_or_else(|| Failure::new("weir ended before it had begun"))),
        }
    }

    /// Waits until everything that the manifests say is in the kernel; returns how many service ports that are.
    ///
    /// # Errors
    /// It is not, after a time that is long enough.
    pub fn wait(&self) -> Result<usize, Failure> {
        let begin = Instant::now();
        loop {
            let status = self.handle.status();
            if is_served(&status) {
                return Ok(status.families.iter().map(|(_, family)| family.applied).sum());
            }
            if begin.elapsed() > PATIENCE {
                return Err(Failure::new("weir did not get its rules into the kernel: `weir demo -v` tells why"));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// How many objects somebody else has changed, as found so far.
    pub fn drift_found(&self) -> u64 {
        self.handle.status().counters.drift.values().sum()
    }

    /// Waits until more are found, and returns how many more; none if that takes too long.
    pub fn wait_for_drift(&self, before: u64, patience: Duration) -> u64 {
        let begin = Instant::now();
        while self.drift_found() == before && begin.elapsed() < patience {
            thread::sleep(Duration::from_millis(1));
        }
        self.drift_found() - before
    }

    /// How long the last change of rules took in the kernel and its tools.
    pub fn last_apply(&self) -> Option<Duration> {
        self.handle.status().last_apply
    }

    /// Stops it as SIGTERM does, and waits for its end.
    pub fn stop(self) -> Result<(), Failure> {
        // The receiver is gone only if weir has ended, and then the thread tells why.
        let _ = self.stop.send(());
        end(self.thread)
    }
}

fn is_served(status: &Status) -> bool {
    let owed = status.families.iter().any(|(_, family)| family.unapplied > 0);
    status.synced.is_some() && status.started && !owed && status.quarantined.is_empty()
}

fn end(thread: JoinHandle<Result<(), Failure>>) -> Result<(), Failure> {
    thread.join().unwrap_or_else(|_| Err(Failure::new("weir's thread has panicked: please report what it said")))
}

/// The flags that `weir proxy` would get here.
fn config() -> Result<NodeConfig, Failure> {
    let nets: Result<Vec<_>, _> = CLUSTER_CIDRS.iter().map(|net| net.parse()).collect();
    let rules = RuleOptions {
        proxy_mode: ProxyMode::Iptables,
        iptables_variant: VariantChoice::Auto,
        iptables_driver: IptablesDriver::Auto,
        cluster_cidr: nets.map_err(failure)?,
        detect_local_mode: DetectLocalMode::ClusterCidr,
        pod_bridge_interface: None,
        pod_interface_name_prefix: None,
        bind_address: None,
        nodeport_addresses: Vec::new(),
        iptables_localhost_nodeports: true,
        iptables_masquerade_bit: 14,
        masquerade_all: false,
        ipvs: IpvsOptions::default(),
        egress: EgressOptions::default(),
    };
    // There is no crowd of changes to be gathered: no gap between them.
    let pacing = Pacing::new(Duration::ZERO, SYNC_PERIOD);
    Ok(NodeConfig { node_name: NODE_NAME.into(), rules, pacing, gates: FeatureGates::default() })
}

fn serve(
    config: NodeConfig,
    dir: PathBuf,
    driver: Driver,
    report: &mpsc::Sender<Handle>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failure(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let source = manifest::Config { dir, node_name: Arc::clone(&config.node_name) };
        let (updates, _) = manifest::start(source).map_err(failure)?;
        let node = RunningNode::start(config, driver, updates, Observers::default())?;
        if report.send(node.handle().clone()).is_err() {
            return Ok(());
        }
        // Without a word, the sender is gone because the demo has failed: that is the end as well.
        node.until(async { drop(stopped.await) }).await
    })
}
