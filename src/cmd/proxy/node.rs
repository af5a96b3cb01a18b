//! The parts of a node put together: source → facts → engine → backend, and the conntrack worker beside.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::facts::{Followers, NodeFacts, Told};
use super::flows::UdpFlows;
use super::gate::NodeGate;
use super::keeper::{HealthChecks, SettingsKeeper};
use super::mode::{self, IpvsKernel};
use super::readings::Parts;
use crate::cmd::accounting::Accounting;
use crate::cmd::options::{ProxyMode, RuleOptions};
use crate::cmd::settle::HostFacts;
use crate::cmd::{Failure, live};
use crate::config::FeatureGates;
use crate::engine::{Handle, Hooks, KernelThread, Listener, OnDenied, Pacing, Runner};
use crate::kernel::KernelTraffic;
use crate::kernel::conntrack::{Run, Timing, Worker};
use crate::kernel::watch::{OwnWrites, Watch, WatchConfig};
use crate::kernel::xtables::{Driver, RuleCounts};
use crate::net::{Family, PerFamily};
use crate::resolve::Options;
use crate::serve::metrics::Metrics;
use crate::source::Updates;

/// What a node needs to know beside the facts of its source.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub node_name: Arc<str>,
    pub rules: RuleOptions,
    pub pacing: Pacing,
    pub gates: FeatureGates,
}

/// Who else is told what happens on a node.
pub struct Observers {
    /// Facts are complete once it is open.
    pub gate: NodeGate,
    pub told: Told,
    pub notices: Listener,
    pub health_checks: HealthChecks,
    /// Somebody else has the virtual server of a service port.
    pub denied: OnDenied,
    /// `None`: nobody measures.
    pub metrics: Option<Arc<Metrics>>,
}

impl Default for Observers {
    /// Nobody, and the Node is not waited for.
    fn default() -> Self {
        Observers {
            gate: NodeGate::open(),
            told: Box::new(|_, _| {}),
            notices: Box::new(|_| {}),
            health_checks: Arc::new(watch::channel(PerFamily::default()).0),
            denied: Box::new(|_, _| {}),
            metrics: None,
        }
    }
}

/// What the source's facts are resolved with.
pub fn resolve_options(gates: &FeatureGates, families: &[Family]) -> Options {
    Options {
        external_ips_allowed: gates.is_enabled("AllowServiceExternalIPs"),
        families: PerFamily::new(|family| families.contains(&family)),
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
    parts: Option<Parts>,
    families: Vec<Family>,
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
        let Observers { gate, told, notices, health_checks, denied, metrics } = observers;
        let (mut driver, own, traffic) = (driver.into(), OwnWrites::new(), KernelTraffic::default());
        driver.tell(own.clone());
        driver.count(traffic.rules.clone());
        let (families, variant) = (driver.families(), driver.variant());
        let (accounting, ipvs) = match config.rules.proxy_mode {
            ProxyMode::Iptables => (Accounting::make(&families), None),
            ProxyMode::Ipvs => {
                let ipvs = IpvsKernel::open(&config.rules.ipvs, &config.node_name, &driver, &traffic)?;
                (Accounting::default(), Some(ipvs))
            }
        };
        let host = HostFacts { accounting, ..HostFacts::read()? };
        let settings = Arc::new(SettingsKeeper::new(config.rules.clone(), host, health_checks));
        if settings.current().localhost_node_ports && families.contains(&Family::V4) {
            live::enable_route_localnet()?;
        }
        let thread_failed = |error: &dyn std::fmt::Display| Failure::new(format!("cannot start a thread: {error}"));
        let worker =
            Worker::spawn(Timing::default(), cleaned_up(metrics.clone())).map_err(|error| thread_failed(&error))?;
        let (figures, counts) = (worker.figures(), RuleCounts::default());
        let hooks = hooks(UdpFlows::new(worker, settings.clone()), metrics.clone());
        let needs = mode::Needs { traffic: &traffic, counts: &counts, denied };
        let backend = mode::backend(&config.rules, &config.node_name, driver, ipvs, settings.shared(), needs)?;
        let kernel = KernelThread::spawn(backend, hooks).map_err(|error| thread_failed(&error))?;
        let options = resolve_options(&config.gates, &families);
        let gate = Arc::new(gate);
        let followers = Followers { settings: settings.clone(), gate: gate.clone(), told };
        let facts = NodeFacts::new(config.node_name, options, followers);
        let status_period = config.pacing.sync_period;
        let (runner, handle) = Runner::new(config.pacing, facts, updates, kernel);
        let mut runner = runner.telling(notices);
        if let Some(metrics) = metrics {
            runner = runner.timing(Box::new(move |trigger| metrics.programmed(trigger.family, trigger.time)));
        }
        settings.tell(handle.clone());
        let (engine, hosts) = (handle.clone(), settings.clone());
        let watch = Watch::spawn(WatchConfig {
            variant,
            families: families.clone(),
            own,
            on_drift: Box::new(move |suspicion| engine.drift_seen(suspicion)),
            on_addresses: Box::new(move || hosts.look_at_host()),
        })
        .map_err(|error| thread_failed(&error))?;
        let counts = (config.rules.proxy_mode == ProxyMode::Iptables).then_some(counts);
        let parts = Parts { traffic, rules: counts, conntrack: figures, source: None, accounting: accounting.open() };
        Ok(RunningNode { runner, handle, settings, gate, status_period, watch, parts: Some(parts), families })
    }

    /// The running engine, to be asked and nudged.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The families that are served.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// What metrics ask at a scrape. There is one set of parts.
    pub fn take_parts(&mut self) -> Option<Parts> {
        self.parts.take()
    }

    /// Serves until `shutdown` is ready; rules stay.
    ///
    /// # Errors
    /// The source or the kernel thread ended by itself, or the Node did not come.
    pub async fn until(self, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
        let RunningNode { runner, handle, settings, gate, status_period, watch: _watching, .. } = self;
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

/// Called by the conntrack worker.
fn cleaned_up(metrics: Option<Arc<Metrics>>) -> impl FnMut(&Run) + Send + 'static {
    move |run| {
        tracing::debug!(?run, "conntrack cleanup");
        if let Some(metrics) = &metrics {
            metrics.cleaned_up(run.family, run.duration);
        }
    }
}

/// Called on the kernel thread.
fn hooks(mut flows: UdpFlows, metrics: Option<Arc<Metrics>>) -> Hooks {
    let measured = metrics.clone();
    Hooks {
        applied: Box::new(move |moves| {
            flows.applied(moves);
            if let Some(metrics) = &metrics {
                metrics.in_force(moves.iter().filter_map(|m| {
                    let port = m.after.as_ref().or(m.before.as_ref())?;
                    Some((&port.key, m.after.as_deref()))
                }));
            }
        }),
        finished: Box::new(move |done| {
            tracing::debug!(task = ?done.task, took = ?done.took, ok = done.succeeded, "kernel");
            if let Some(metrics) = &measured {
                metrics.finished(&done);
            }
        }),
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
