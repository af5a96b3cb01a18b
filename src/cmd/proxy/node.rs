//! The parts of a node put together: source → facts → engine → backend, and the conntrack worker beside.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::facts::{Followers, NodeFacts, Told};
use super::flows::UdpFlows;
use super::gate::NodeGate;
use super::keeper::SettingsKeeper;
use super::mode::{self, IpvsKernel};
use crate::cmd::accounting::Accounting;
use crate::cmd::options::{ProxyMode, RuleOptions};
use crate::cmd::settle::HostFacts;
use crate::cmd::{Failure, live};
use crate::engine::{Handle, Hooks, KernelThread, Listener, Pacing, Runner};
use crate::kernel::conntrack::{Timing, Worker};
use crate::kernel::watch::{OwnWrites, Watch, WatchConfig};
use crate::kernel::xtables::Driver;
use crate::net::{Family, PerFamily};
use crate::resolve::Options;
use crate::source::Updates;

/// What a node needs to know beside the facts of its source.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub node_name: Arc<str>,
    pub rules: RuleOptions,
    pub pacing: Pacing,
}

/// Who else is told what happens on a node.
pub struct Observers {
    /// Facts are complete once it is open.
    pub gate: NodeGate,
    pub told: Told,
    pub notices: Listener,
}

impl Default for Observers {
    /// Nobody, and the Node is not waited for.
    fn default() -> Self {
        Observers { gate: NodeGate::open(), told: Box::new(|_, _| {}), notices: Box::new(|_| {}) }
    }
}

/// A node that serves.
pub struct RunningNode {
    runner: Runner<NodeFacts>,
    handle: Handle,
    settings: Arc<SettingsKeeper>,
    gate: Arc<NodeGate>,
    /// How often the state is logged at debug level.
    status_period: Duration,
    watch: Watch,
}

/// The host's addresses are read at least this often.
const HOST_PERIOD: Duration = Duration::from_secs(10);

impl RunningNode {
    /// Starts the threads, in the calling thread's network namespace. Nothing is written before the source is synced.
    ///
    /// # Errors
    /// Something that the mode needs is missing, a sysctl that cannot be set, a thread that cannot be started.
    pub fn start(
        config: NodeConfig,
        driver: impl Into<Driver>,
        updates: Updates,
        observers: Observers,
    ) -> Result<Self, Failure> {
        let (mut driver, own) = (driver.into(), OwnWrites::new());
        driver.tell(own.clone());
        let (families, variant) = (driver.families(), driver.variant());
        let (accounting, ipvs) = match config.rules.proxy_mode {
            ProxyMode::Iptables => (Accounting::make(&families), None),
            ProxyMode::Ipvs => {
                let ipvs = IpvsKernel::open(&config.rules.ipvs, &config.node_name, &driver)?;
                (Accounting::default(), Some(ipvs))
            }
        };
        let host = HostFacts { accounting, ..HostFacts::read()? };
        let settings = Arc::new(SettingsKeeper::new(config.rules.clone(), host));
        if settings.current().localhost_node_ports && families.contains(&Family::V4) {
            live::enable_route_localnet()?;
        }
        let thread_failed = |error: &dyn std::fmt::Display| Failure::new(format!("cannot start a thread: {error}"));
        let worker = Worker::spawn(Timing::default(), |run| tracing::debug!(?run, "conntrack cleanup"))
            .map_err(|error| thread_failed(&error))?;
        let mut flows = UdpFlows::new(worker, settings.clone());
        let hooks = Hooks {
            applied: Box::new(move |moves| flows.applied(moves)),
            finished: Box::new(
                |done| tracing::debug!(task = ?done.task, took = ?done.took, ok = done.succeeded, "kernel"),
            ),
        };
        let backend = mode::backend(&config.rules, &config.node_name, driver, ipvs, settings.shared())?;
        let kernel = KernelThread::spawn(backend, hooks).map_err(|error| thread_failed(&error))?;
        let options = Options { families: PerFamily::new(|family| families.contains(&family)), ..Options::default() };
        let gate = Arc::new(observers.gate);
        let followers = Followers { settings: settings.clone(), gate: gate.clone(), told: observers.told };
        let facts = NodeFacts::new(config.node_name, options, followers);
        let status_period = config.pacing.sync_period;
        let (runner, handle) = Runner::new(config.pacing, facts, updates, kernel);
        let runner = runner.telling(observers.notices);
        settings.tell(handle.clone());
        let (engine, hosts) = (handle.clone(), settings.clone());
        let watch = Watch::spawn(WatchConfig {
            variant,
            families,
            own,
            on_drift: Box::new(move |suspicion| engine.drift_seen(suspicion)),
            on_addresses: Box::new(move || hosts.look_at_host()),
        })
        .map_err(|error| thread_failed(&error))?;
        Ok(RunningNode { runner, handle, settings, gate, status_period, watch })
    }

    /// The running engine, to be asked and nudged.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Serves until `shutdown` is ready; rules stay.
    ///
    /// # Errors
    /// The source or the kernel thread ended by itself, or the Node did not come.
    pub async fn until(self, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
        let RunningNode { runner, handle, settings, gate, status_period, watch: _watching } = self;
        let look = every(status_period.min(HOST_PERIOD), || settings.look_at_host());
        let report = every(status_period, || log_status(&handle));
        let keep = async {
            match gate.keep(&handle).await {
                Ok(()) => std::future::pending().await,
                Err(failure) => failure,
            }
        };
        tokio::select! {
            failure = keep => Err(failure),
            ended = runner.run(shutdown) => ended.map_err(|error| Failure::new(error.to_string())),
            () = look => Ok(()),
            () = report => Ok(()),
        }
    }
}

/// Does something now and then, for ever.
async fn every(period: Duration, mut work: impl FnMut()) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        work();
    }
}

/// The state in one line, for whoever looks for it: news are told when they happen.
fn log_status(engine: &Handle) {
    let status = engine.status();
    let now = engine.clock().now();
    let healthy = Family::ALL.into_iter().all(|family| engine.health(family).is_ok());
    tracing::debug!(
        synced = status.synced.is_some(),
        healthy,
        ipv4 = status.families.v4.applied,
        ipv6 = status.families.v6.applied,
        waiting = status.families.v4.unapplied + status.families.v6.unapplied,
        quarantined = status.quarantined.len(),
        other_scheduler = status.standing.substituted,
        denied = status.standing.denied,
        draining = status.standing.draining,
        read_ago = ?status.last_observed.map(|at| now.saturating_sub(at)),
        "status"
    );
}
