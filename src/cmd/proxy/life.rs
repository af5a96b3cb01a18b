//! The life of the process: a node for each configuration, one after the other. Between two nodes, as after the last one,
//! all rules stay.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use super::gate::NodeGate;
use super::node::{NodeConfig, Observers, RunningNode};
use super::outside::Outside;
use super::signals::{Signals, Wish};
use super::source::{self, Origin};
use super::{config_file, fit};
use crate::cmd::notify::Notifier;
use crate::cmd::options::{ProxyOptions, SourceChoice};
use crate::cmd::settle::{self, Action, Settled};
use crate::cmd::{Failure, cleanup, live};
use crate::engine::{Handle, Pacing, Status};
use crate::events::Event;
use crate::kernel::process::set_oom_score_adj;
use crate::kernel::sysctl::Pins;
use crate::kernel::sysctl::conntrack::{Conntrack, ConntrackSettings};
use crate::kernel::xtables::Driver;
use crate::serve::metrics::{Reload, Request};
use crate::source::kube as api;

/// Events that were recorded last get so long to be posted.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// Beyond the grace period, the end takes so long at most: what is being written is written.
const END: Duration = Duration::from_secs(30);

/// A process that lives.
pub struct Life {
    options: ProxyOptions,
    signals: Signals,
    notifier: Notifier,
    /// The configuration file changes.
    changes: Option<mpsc::Receiver<()>>,
    outside: Option<Outside>,
}

/// Why a node ends.
enum End {
    Stop,
    /// Another configuration is in force from now on.
    Reload(Box<Settled>),
}

impl Life {
    /// Listens to signals, and follows the configuration file. Must be called within a runtime.
    ///
    /// # Errors
    /// The system refuses.
    pub fn begin(options: ProxyOptions, settled: &Settled) -> Result<Self, Failure> {
        let follow = |file: &std::path::PathBuf| {
            config_file::follow(file)
                .map_err(|error| Failure::new(format!("cannot follow {}: {error}", file.display())))
        };
        Ok(Life {
            options,
            signals: Signals::listen()?,
            notifier: Notifier::from_env(),
            changes: settled.file.as_ref().map(follow).transpose()?,
            outside: None,
        })
    }

    /// Serves until somebody asks for the end.
    ///
    /// # Errors
    /// The first node cannot start, or one that ran ended by itself.
    pub async fn live(mut self, settled: Settled) -> Result<(), Failure> {
        let mut current = settled;
        let mut before: Option<Settled> = None;
        loop {
            let started = self.start(&current).await;
            let node = match (started, before.take()) {
                (Ok(None), _) => return Ok(()),
                (Ok(Some(node)), old) => {
                    if old.is_some() {
                        self.accepted(&current);
                    }
                    node
                }
                (Err(failure), None) => return Err(self.flushed(failure).await),
                (Err(failure), Some(old)) => {
                    self.refused(&failure);
                    current = old;
                    continue;
                }
            };
            match self.serve(node, &current).await {
                Ok(End::Stop) => return Ok(()),
                Ok(End::Reload(new)) => before = Some(std::mem::replace(&mut current, *new)),
                Err(failure) => return Err(self.flushed(failure).await),
            }
        }
    }

    /// Starts a node; `None` if there is nothing more to do.
    async fn start(&mut self, settled: &Settled) -> Result<Option<RunningNode>, Failure> {
        let source = settled.source.choice()?;
        set_oom_score_adj(settled.oom_score_adj.into());
        let driver = live::open_for_writing(&settled.rules)?;
        let families = driver.families();
        settle::check_families(&settled.rules, &families)?;
        log_settled(settled, &source, &driver);
        let is_first = self.outside.is_none();
        let outside = self.outside.get_or_insert_with(|| Outside::new(settled, &families));
        let config = api_config(settled, outside);
        let opened = tokio::select! {
            opened = source::open(&source, config) => opened?,
            name = self.signals.stop() => {
                tracing::info!("{name}: stopping before anything was written");
                return Ok(None);
            }
        };
        // Nothing is touched before all is open. The driver may have loaded the module that these are settings of, and
        // settings of rules depend on one of them.
        conntrack(settled)?;
        let gate = match opened.origin {
            Origin::Folder(_) => NodeGate::open(),
            Origin::Api { .. } => NodeGate::of(&settled.node_name, &settled.rules),
        };
        let gate = gate.checking(fit::check(settled, &families));
        let status = opened.origin.api_status();
        let recorder = outside.begin(settled, &families, opened.origin);
        let notices = {
            let (node, recorder) = (settled.node_name.clone(), recorder.clone());
            Box::new(move |notice: &_| {
                if let Some(event) = Event::of_notice(&node, notice) {
                    recorder.record(event);
                }
            })
        };
        let denied = {
            let recorder = recorder.clone();
            Box::new(move |server: &_, port: &crate::model::ServicePortKey| {
                let service = &port.name.service;
                recorder.record(Event::address_taken(service, port.family, &describe(server)));
            })
        };
        let observers = Observers {
            gate,
            told: outside.told(),
            notices,
            health_checks: outside.addresses(),
            denied,
            metrics: Some(outside.metrics.clone()),
        };
        let config = NodeConfig {
            node_name: settled.node_name.clone(),
            rules: settled.rules.clone(),
            pacing: settled.pacing.clone(),
            gates: settled.gates.clone(),
        };
        let mut node = RunningNode::start(config, driver, opened.updates, observers)?;
        if settled.action == Action::InitOnly {
            tracing::info!("initialised; --init-only ends here");
            return Ok(None);
        }
        let parts = node.take_parts().map(|parts| super::readings::Parts { source: status, ..parts });
        if let Some(parts) = parts {
            outside.attach(node.handle(), &families, parts);
        }
        outside.serve(settled)?;
        if is_first {
            outside.record(Event::starting(&settled.node_name, settled.rules.proxy_mode.as_str()));
        }
        Ok(Some(node))
    }

    /// Runs a node until there is a reason to end it.
    async fn serve(&mut self, node: RunningNode, settled: &Settled) -> Result<End, Failure> {
        let Life { options, signals, notifier, changes, outside } = self;
        let Some(outside) = outside else { return Err(Failure::new("nothing was started: please report this")) };
        let handle = node.handle().clone();
        let mut end = None;
        let waiting = Waiting { options, signals, notifier, changes, outside, settled };
        let shutdown = async { end = Some(waiting.end().await) };
        let ready = async {
            ready(&handle, settled, notifier).await;
            std::future::pending::<()>().await
        };
        tokio::select! {
            ended = node.until(shutdown) => ended?,
            () = notifier.keep_alive(|| handle.alive()) => {}
            () = ready => {}
        }
        match end {
            Some(Ok(end)) => Ok(end),
            Some(Err(failure)) => Err(failure),
            None => Ok(End::Stop),
        }
    }

    fn accepted(&self, settled: &Settled) {
        tracing::info!(file = ?settled.file, "the changed configuration is in force");
        if let Some(outside) = &self.outside {
            outside.metrics.reloaded(Reload::Applied);
            let file = settled.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
            outside.record(Event::reloaded(&settled.node_name, &file));
        }
    }

    fn refused(&self, failure: &Failure) {
        if let Some(outside) = &self.outside {
            refused(outside, &self.notifier, failure);
        }
    }

    /// What was recorded last should be read by somebody.
    async fn flushed(&self, failure: Failure) -> Failure {
        if let Some(outside) = &self.outside {
            outside.recorder().flushed(LAST_EVENTS).await;
        }
        failure
    }
}

/// Loud: whoever changed the file believes that it counts.
fn refused(outside: &Outside, notifier: &Notifier, failure: &Failure) {
    tracing::error!("the changed configuration is refused, the old one stays in force: {failure}");
    notifier.ready(&format!("the changed configuration is refused, the old one stays in force: {failure}"));
    outside.metrics.reloaded(Reload::Rejected);
    outside.record(Event::refused(outside.node_name(), failure));
}

/// What a node waits for while it serves.
struct Waiting<'a> {
    options: &'a ProxyOptions,
    signals: &'a mut Signals,
    notifier: &'a Notifier,
    changes: &'a mut Option<mpsc::Receiver<()>>,
    outside: &'a mut Outside,
    settled: &'a Settled,
}

impl Waiting<'_> {
    /// A reason to end.
    async fn end(mut self) -> Result<End, Failure> {
        loop {
            let wish = tokio::select! {
                wish = self.signals.next() => wish,
                () = changed(self.changes) => Wish::Reload,
                failure = self.outside.hard_failure() => return Err(failure),
            };
            match wish {
                Wish::Stop(name) => {
                    self.leave(name).await;
                    return Ok(End::Stop);
                }
                Wish::Reload => {
                    if let Some(new) = self.reload() {
                        return Ok(End::Reload(Box::new(new)));
                    }
                }
            }
        }
    }

    /// Health fails first, for as long as was asked for; rules are kept right meanwhile.
    async fn leave(&mut self, name: &str) {
        let grace = self.settled.shutdown_grace_period;
        self.notifier.stopping(grace + END);
        if grace.is_zero() {
            tracing::info!("{name}: stopping after what is being written; the rules stay");
            return;
        }
        tracing::info!(?grace, "{name}: health fails from now on, and the rules are kept right until the end");
        self.outside.start_stopping();
        tokio::select! {
            () = tokio::time::sleep(grace) => tracing::info!("the grace period is over; the rules stay"),
            name = self.signals.stop() => tracing::info!("{name}: stopping now; the rules stay"),
        }
    }

    /// Reads the configuration again: another one, if it is good and differs.
    fn reload(&self) -> Option<Settled> {
        self.notifier.reloading();
        match settle::complete(self.options) {
            Ok(new) if new.config == self.settled.config => {
                tracing::info!("the configuration was read again, and says the same");
                self.notifier.ready("serving");
                None
            }
            Ok(new) => {
                tracing::info!("the configuration changed: starting anew with it, the rules stay meanwhile");
                Some(new)
            }
            Err(failure) => {
                refused(self.outside, self.notifier, &failure);
                None
            }
        }
    }
}

/// Ready when the file changes; never without a file.
async fn changed(changes: &mut Option<mpsc::Receiver<()>>) {
    let told = match changes {
        Some(changes) => changes.recv().await,
        None => None,
    };
    if told.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Once everything is in the kernel: says so, and takes what kube-proxy's nftables mode left, which nobody needs any more
/// (contract 1.7, step 2).
async fn ready(handle: &Handle, settled: &Settled, notifier: &Notifier) {
    let mut status = handle.watch();
    if status.wait_for(|status| is_served(status)).await.is_err() {
        return;
    }
    notifier.ready(&format!("serving in {} mode", settled.rules.proxy_mode.as_str()));
    let removed = tokio::task::spawn_blocking(cleanup::remove_nftables_leftovers).await;
    if let Ok(Err(failure)) = removed {
        tracing::error!("{failure}");
    }
}

fn is_served(status: &Status) -> bool {
    status.synced.is_some() && status.started && status.families.iter().all(|(_, family)| family.unapplied == 0)
}

/// Settings of connection tracking, before anything reads them (contract 6.6).
fn conntrack(settled: &Settled) -> Result<(), Failure> {
    let wanted = &settled.conntrack;
    let settings = ConntrackSettings {
        max_per_core: wanted.max_per_core,
        min: wanted.min,
        tcp_established: wanted.tcp_established_timeout,
        tcp_close_wait: wanted.tcp_close_wait_timeout,
        tcp_be_liberal: wanted.tcp_be_liberal,
        udp: wanted.udp_timeout,
        udp_stream: wanted.udp_stream_timeout,
    };
    let pins = Pins::by_name(settled.rules.ipvs.kept_sysctls()).and_files(Path::new("/"));
    Conntrack::default().settle(&settings, &pins).map_err(|error| Failure::new(error.to_string()))
}

/// How the API server is asked.
fn api_config(settled: &Settled, outside: &Outside) -> api::Config {
    let mut config = api::Config::new(&*settled.node_name);
    let (requests, events) = (outside.requests().clone(), outside.recorder_cell());
    config.observer = api::Observer::new(move |done| {
        let api::Finished { method, host, code, is_watch, took } = *done;
        requests.finished(&Request { method: method.as_str(), host, code, is_watch, took });
    });
    config.on_problem = api::ProblemListener::new(move |object, problem| {
        if let Some(event) = Event::unusable(object, problem) {
            events.record(event);
        }
    });
    config
}

fn describe(server: &crate::kernel::ipvs::VirtualServerKey) -> String {
    format!("{server}")
}

/// One line that says what this process is going to do, and one for what it cannot do.
fn log_settled(settled: &Settled, source: &SourceChoice<'_>, driver: &Driver) {
    let (rules, pacing): (_, &Pacing) = (&settled.rules, &settled.pacing);
    let families: Vec<&str> = driver.families().iter().map(|family| family.as_str()).collect();
    tracing::info!(
        node = &*settled.node_name,
        %source,
        mode = rules.proxy_mode.as_str(),
        variant = %driver.variant(),
        %driver,
        families = families.join(","),
        detect_local = rules.detect_local_mode.as_str(),
        sync_period = ?pacing.sync_period,
        min_sync_period = ?pacing.min_sync_period,
        version = super::pages::version(settled),
        "weir proxy starts; SIGTERM stops it and leaves the rules"
    );
    for doubt in settle::doubts(rules) {
        tracing::warn!("{doubt}");
    }
}

/// Runs it.
///
/// # Errors
/// Those of [`Life::begin`] and [`Life::live`], and no threads.
pub fn run(options: ProxyOptions, settled: Settled) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    runtime.block_on(async { Life::begin(options, &settled)?.live(settled).await })
}
