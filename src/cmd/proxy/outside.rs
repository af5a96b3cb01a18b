//! What others see of this process: health, metrics, health check node ports, events. It is there from the first node on
//! and stays when the node is started anew for another configuration: no port closes for that.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::{mpsc, watch};

use super::pages;
use super::readings::Parts;
use super::source::Origin;
use crate::cmd::Failure;
use crate::cmd::settle::{Endpoints, Settled};
use crate::engine::Handle;
use crate::events::{self, Event, Recorder};
use crate::model::NodePortAddresses;
use crate::net::{Family, PerFamily};
use crate::resolve::Options;
use crate::resolve::health::{HealthPorts, NodeEligibility};
use crate::serve::health::{
    FamilyHealth, NodePorts, NodePortsConfig, ProxyHealth, Sources, of_engine, raise_open_files,
};
use crate::serve::http::{Endpoint, Handler, Kept, ListenError, keep_serving, serve};
use crate::serve::metrics::{Metrics, Mode, Requests, Setup};
use crate::state::{State, Touched};

/// How the families of the node are; before there is one, nobody knows.
type HowFamiliesAre = Box<dyn Fn(Family) -> FamilyHealth + Send + Sync>;

/// What belongs to the node of the moment.
#[derive(Default)]
struct Inside {
    families: Option<HowFamiliesAre>,
    origin: Option<Origin>,
}

/// Records events in the name of the node of the moment.
pub struct Recording(Arc<RwLock<Recorder>>);

impl Recording {
    pub fn record(&self, event: Event) {
        self.0.read().unwrap_or_else(PoisonError::into_inner).record(event);
    }
}

/// What others see.
pub struct Outside {
    node_name: Arc<str>,
    pub metrics: Arc<Metrics>,
    requests: Requests,
    inside: Arc<RwLock<Inside>>,
    events: Arc<RwLock<Recorder>>,
    health: Arc<ProxyHealth>,
    eligibility: Arc<watch::Sender<NodeEligibility>>,
    /// Where health check node ports are.
    addresses: Arc<watch::Sender<PerFamily<NodePortAddresses>>>,
    ports: Arc<Ports>,
    /// The pages of the metrics server for the configuration of the moment.
    pages: Arc<RwLock<Handler>>,
    servers: Option<Servers>,
    /// A server that must have its address and does not get it.
    hard_failures: mpsc::UnboundedReceiver<ServerFailure>,
    hard_failed: mpsc::UnboundedSender<ServerFailure>,
}

struct Ports {
    follow: Mutex<HealthPorts>,
    serve: NodePorts,
}

struct Servers {
    healthz: Kept,
    metrics: Kept,
}

/// Which server cannot listen, and why.
struct ServerFailure {
    event: Event,
    line: String,
}

impl Outside {
    /// With no server yet: those come with the first node. Must be called within a runtime.
    pub fn new(settled: &Settled, families: &[Family]) -> Self {
        if let Err(error) = raise_open_files() {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
        let inside: Arc<RwLock<Inside>> = Arc::default();
        let (eligibility, eligible) = watch::channel(NodeEligibility::default());
        let requests = Requests::default();
        let metrics = Metrics::new(setup(settled, families, &requests));
        let counted = metrics.clone();
        let sources = sources(&inside, eligible).with_probes(move |probe, code| counted.probed(probe, code.as_u16()));
        let health = ProxyHealth::new(sources);
        let (addresses, follow_addresses) = watch::channel(PerFamily::default());
        let events: Arc<RwLock<Recorder>> = Arc::default();
        let is_healthy = {
            let health = health.clone();
            move || health.is_healthy()
        };
        let recorder = events.clone();
        let on_failure = move |failure: &crate::serve::health::Failure| {
            let event = Event::failed_service_healthcheck(&failure.service, failure);
            recorder.read().unwrap_or_else(PoisonError::into_inner).record(event);
        };
        let node = settled.node_name.clone();
        let ports = Arc::new(Ports {
            follow: Mutex::new(HealthPorts::new(node.clone(), options(settled, families))),
            serve: NodePorts::start(NodePortsConfig::new(node, follow_addresses, is_healthy, on_failure)),
        });
        let (hard_failed, hard_failures) = mpsc::unbounded_channel();
        Outside {
            node_name: settled.node_name.clone(),
            pages: Arc::new(RwLock::new(pages::handler(settled, &metrics))),
            metrics,
            requests,
            inside,
            events,
            health,
            eligibility: Arc::new(eligibility),
            addresses: Arc::new(addresses),
            ports,
            servers: None,
            hard_failures,
            hard_failed,
        }
    }

    /// A node is about to start: whom it tells of its facts.
    pub fn begin(&self, settled: &Settled, families: &[Family], origin: Origin) -> Recorder {
        let recorder = match &origin {
            Origin::Api { client, .. } => events::start(client.clone(), &settled.node_name),
            Origin::Folder(_) => Recorder::nowhere(),
        };
        write(&self.inside).origin = Some(origin);
        *write(&self.events) = recorder.clone();
        self.metrics.begin(setup(settled, families, &self.requests));
        let follow = HealthPorts::new(settled.node_name.clone(), options(settled, families));
        self.ports.follow.lock().unwrap_or_else(PoisonError::into_inner).succeed(follow);
        *write(&self.pages) = pages::handler(settled, &self.metrics);
        recorder
    }

    /// Called with each batch of facts.
    pub fn told(&self) -> super::facts::Told {
        let (eligibility, ports) = (self.eligibility.clone(), self.ports.clone());
        Box::new(move |state: &State, touched: &Touched| {
            let now = NodeEligibility::of(state);
            eligibility.send_if_modified(|eligible| std::mem::replace(eligible, now) != now);
            let changes = ports.follow.lock().unwrap_or_else(PoisonError::into_inner).follow(state, touched);
            ports.serve.tell(changes);
        })
    }

    /// Where health check node ports are told of.
    pub fn addresses(&self) -> Arc<watch::Sender<PerFamily<NodePortAddresses>>> {
        self.addresses.clone()
    }

    /// The node of the moment.
    pub fn attach(&self, engine: &Handle, families: &[Family], parts: Parts) {
        write(&self.inside).families = Some(Box::new(of_engine(engine.clone(), families)));
        self.metrics.follow(engine.clone());
        self.metrics.ask(parts);
    }

    /// Serves where the configuration says: from now on, or on other addresses than before.
    ///
    /// # Errors
    /// An address cannot be had, and the configuration says that this ends the process.
    pub fn serve(&mut self, settled: &Settled) -> Result<(), Failure> {
        let Endpoints { healthz, metrics, hard_fail, .. } = settled.endpoints;
        if let Some(servers) = &self.servers {
            servers.healthz.rebind(healthz);
            servers.metrics.rebind(Some(metrics));
            return Ok(());
        }
        let (node, failed) = (settled.node_name.clone(), self.hard_failed.clone());
        let on_failure = move |event: fn(&Arc<str>, &dyn std::fmt::Display) -> Event, what: &'static str| {
            let (node, failed) = (node.clone(), failed.clone());
            move |error: &ListenError| {
                if hard_fail {
                    let line = format!("{what} cannot listen, and bindAddressHardFail is set: {error}");
                    // Whoever waits for it may have ended.
                    let _ = failed.send(ServerFailure { event: event(&node, error), line });
                }
            }
        };
        let start = |name, handler, address: Option<SocketAddr>, event, what| {
            let (endpoint, on_failure) = (Endpoint::new(name, handler), on_failure(event, what));
            match address {
                Some(address) if hard_fail => serve(endpoint, address, on_failure).map_err(|error| ServerFailure {
                    event: event(&settled.node_name, &error),
                    line: error.to_string(),
                }),
                address => Ok(keep_serving(endpoint, address, on_failure)),
            }
        };
        let healthz = start("healthz", self.health.handler(), healthz, Event::failed_healthcheck, "the health server");
        let served = healthz.and_then(|healthz| {
            let metrics =
                start("metrics", self.metrics_pages(), Some(metrics), Event::failed_metrics, "the metrics server")?;
            Ok(Servers { healthz, metrics })
        });
        match served {
            Ok(servers) => {
                self.servers = Some(servers);
                Ok(())
            }
            Err(failure) => {
                self.record(failure.event);
                Err(Failure::new(failure.line))
            }
        }
    }

    /// Ready when a server that must have its address lost it.
    pub async fn hard_failure(&mut self) -> Failure {
        match self.hard_failures.recv().await {
            Some(failure) => {
                self.record(failure.event);
                Failure::new(failure.line)
            }
            // This end has a sender.
            None => std::future::pending().await,
        }
    }

    /// From now on health fails.
    pub fn start_stopping(&self) {
        self.health.start_stopping();
    }

    /// Records an event in the name of the node of the moment.
    pub fn record(&self, event: Event) {
        self.recorder().record(event);
    }

    /// The recorder of the node of the moment, whichever that is when it is used.
    pub fn recorder_cell(&self) -> Recording {
        Recording(self.events.clone())
    }

    /// Where requests to the API server are counted.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Whom events are about.
    pub fn node_name(&self) -> &Arc<str> {
        &self.node_name
    }

    pub fn recorder(&self) -> Recorder {
        self.events.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn metrics_pages(&self) -> Handler {
        let pages = self.pages.clone();
        Handler::awaiting(move |parts, body| {
            let now = pages.read().unwrap_or_else(PoisonError::into_inner).clone();
            async move { now.answer(parts, body).await }
        })
    }
}

/// What health is made of: the node of the moment.
fn sources(inside: &Arc<RwLock<Inside>>, eligible: watch::Receiver<NodeEligibility>) -> Sources {
    let (families, origin) = (inside.clone(), inside.clone());
    let how = move |family| {
        let inside = families.read().unwrap_or_else(PoisonError::into_inner);
        inside.families.as_ref().map(|families| families(family)).unwrap_or_default()
    };
    let remarks = move || {
        let inside = origin.read().unwrap_or_else(PoisonError::into_inner);
        inside.origin.as_ref().map(Origin::remarks).unwrap_or_default()
    };
    Sources::new(how, eligible).with_remarks(remarks)
}

fn setup(settled: &Settled, families: &[Family], requests: &Requests) -> Setup {
    Setup {
        mode: match settled.rules.proxy_mode {
            crate::cmd::options::ProxyMode::Iptables => Mode::Iptables,
            crate::cmd::options::ProxyMode::Ipvs => Mode::Ipvs,
        },
        families: families.to_vec(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        features: pages::features(settled),
        requests: requests.clone(),
    }
}

fn options(settled: &Settled, families: &[Family]) -> Options {
    super::node::resolve_options(&settled.gates, families)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
