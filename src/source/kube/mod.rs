//! Facts from a Kubernetes API server.
//!
//! [`connect`] makes a client from flags; [`start`] follows Services, EndpointSlices, our Node and ServiceCIDRs with
//! the selectors of contract 2.1, one task for each kind, and sends batches of updates:
//!
//! | the server | the batch |
//! |---|---|
//! | sent a complete list (first, or after a version became too old) | one `Replace` |
//! | sent changes | their `Upsert`s and `Delete`s, together as far as they arrived together |
//! | is away, slow, or sends rubbish | none: what was told stays in force |
//!
//! A kind is *synced* with its first `Replace`. What to do next is decided by a pure machine (`step`); the loop around
//! it (`reflector`) only sends, reads and waits. Bytes become events (`stream`), events become facts (`decode`) without
//! a full API object in between.
//!
//! Protobuf is asked for, and JSON where a server has no protobuf (`negotiation`); each answer says what it is. Both
//! readers fill the same structures ([`wire`](super::wire)), where the one meaning is.
//!
//! Client-side rate limits (`clientConnection.qps` and `burst`) have nothing to limit here: a kind has one request
//! open at a time, and failures are spaced by the backoff.

mod backoff;
mod connect;
mod decode;
mod health;
mod lines;
mod negotiation;
mod problems;
mod protobuf;
mod reflector;
mod replay;
mod requests;
mod resource;
mod status;
mod step;
mod stream;
mod transport;
mod tuning;

use std::path::PathBuf;
use std::sync::Arc;

use kube::client::Client;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use connect::{ConnectError, connect};
pub use replay::Replay;
pub use requests::{Finished, Observer};
pub use status::{KindStatus, ProblemListener, Status};
pub use stream::Encoding;
pub use tuning::Tuning;

use super::{QUEUE, Updates};
use crate::state::Kind;
use reflector::Reflector;
use resource::Resource;

/// What the source needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// `clientConnection.kubeconfig`; none and no `master`: the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// `--master`: replaces the server of the kubeconfig.
    pub master: Option<String>,
    /// The Node to follow.
    pub node_name: String,
    pub tuning: Tuning,
    /// Who is told of requests.
    pub observer: Observer,
    pub on_problem: ProblemListener,
}

impl Config {
    /// In-cluster credentials and default tuning.
    pub fn new(node_name: impl Into<String>) -> Config {
        Config {
            kubeconfig: None,
            master: None,
            node_name: node_name.into(),
            tuning: Tuning::default(),
            observer: Observer::default(),
            on_problem: ProblemListener::default(),
        }
    }
}

/// What is listed and watched, as RBAC names it: `endpointslices.discovery.k8s.io`.
pub fn followed() -> Vec<&'static str> {
    Kind::ALL.into_iter().map(|kind| Resource::new(kind, "").rbac_name).collect()
}

/// Starts following all kinds. The tasks end when the receiver is dropped; the channel closes only if one of them
/// died, which is a defect: no proxy should go on with a kind missing.
///
/// Must be called within a tokio runtime.
pub fn start(client: &Client, config: &Config) -> (Updates, Arc<Status>) {
    let (sender, updates) = mpsc::channel(QUEUE);
    let status = Arc::new(Status::telling(config.on_problem.clone()));
    let mut tasks = JoinSet::new();
    for kind in Kind::ALL {
        let resource = Resource::new(kind, &config.node_name);
        let tuning = config.tuning.clone();
        tasks.spawn(Reflector::new(resource, client.clone(), tuning, status.clone(), sender.clone()).run());
    }
    drop(sender);
    tokio::spawn(async move {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the API source died; the source ends");
                return;
            }
        }
    });
    (updates, status)
}
