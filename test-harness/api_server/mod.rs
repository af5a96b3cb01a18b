//! A scripted API server on 127.0.0.1: lists and watches of objects in memory, and faults on demand.
//!
//! What it does like the real one: resource versions, label and field selectors (the forms that a proxy sends), pages
//! with `limit` and `continue`, watches that send `DELETED` when an object leaves the selection, bookmarks, streaming
//! lists, `timeoutSeconds`, 410 for versions that were compacted away, JSON and protobuf as the client asks. Objects are
//! kept as text, so that a cluster of tens of thousands costs little.
//!
//! ```ignore
//! let server = ApiServer::start().await;
//! server.put(json!({"kind": "Service", "metadata": {"namespace": "ns", "name": "a"}, "spec": {}}));
//! server.script(Verb::Watch, "services", 1, Fault::Status { code: 410, retry_after: None });
//! ```

// Every suite uses its own part of it, and a test fails by panicking.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answer;
mod encoding;
mod events;
pub mod protobuf;
mod script;
mod selector;
mod store;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use events::Events;
use script::Script;
pub use script::{Fault, Verb};
use store::{Raw, Store};

/// A request that was received.
#[derive(Clone, Debug)]
pub struct Seen {
    pub verb: Verb,
    /// `services`, `endpointslices`, `nodes`, `servicecidrs`, `events`.
    pub resource: String,
    /// Path and query, decoded.
    pub url: String,
    /// The `Accept` header.
    pub accept: String,
}

/// How the server answers to a client that asks for protobuf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protobuf {
    /// It speaks it.
    #[default]
    Spoken,
    /// It takes the other encoding that the client accepts, JSON.
    Unknown,
    /// 406, whatever else the client accepts.
    Refused,
}

/// What connections share.
struct Shared {
    events: Events,
    protobuf: Mutex<Protobuf>,
    store: Store,
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    bookmark_interval: Mutex<Duration>,
}

/// The server. Dropping it stops it.
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    running: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl ApiServer {
    /// Starts on a free port, without objects.
    pub async fn start() -> ApiServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            events: Events::default(),
            protobuf: Mutex::default(),
            store: Store::new(),
            script: Mutex::default(),
            seen: Mutex::default(),
            bookmark_interval: Mutex::new(Duration::from_secs(10)),
        });
        let server = ApiServer { shared, address, running: Mutex::new(None) };
        server.serve(listener);
        server
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds or replaces an object; `kind`, `metadata.namespace` and `metadata.name` say which. The server sets
    /// `metadata.resourceVersion` and returns it.
    pub fn put(&self, object: Value) -> u64 {
        self.shared.store.put(object)
    }

    /// Removes an object if it is there. The namespace of cluster-scoped kinds is empty.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        self.shared.store.delete(kind, namespace, name)
    }

    /// Events that clients have created, as they are now, sorted by namespace and name.
    pub fn events(&self) -> Vec<Value> {
        self.shared.events.all()
    }

    /// Forgets all events, as the API server does after an hour.
    pub fn forget_events(&self) {
        self.shared.events.clear();
    }

    /// From now on protobuf is spoken, unknown or refused.
    pub fn set_protobuf(&self, protobuf: Protobuf) {
        *self.shared.protobuf.lock().expect("lock") = protobuf;
    }

    /// Sends this event to all open watches of a kind; it is not remembered.
    pub fn inject(&self, kind: &str, event: &Value) {
        self.shared.store.inject(kind, Raw::Event(event.clone()));
    }

    /// Sends these bytes to all open watches of a kind.
    pub fn inject_bytes(&self, kind: &str, bytes: &[u8]) {
        self.shared.store.inject(kind, Raw::Bytes(bytes.to_vec()));
    }

    /// Forgets all history: watches from an older version get 410, as do tokens of unfinished lists.
    pub fn compact(&self) {
        self.shared.store.compact();
    }

    /// Commits a version without an object of interest, as other kinds of objects do all the time.
    pub fn tick(&self) -> u64 {
        self.shared.store.tick()
    }

    /// Watches get a bookmark this often.
    pub fn set_bookmark_interval(&self, interval: Duration) {
        *self.shared.bookmark_interval.lock().expect("lock") = interval;
    }

    /// The next `times` requests of this verb for this resource (`*`: any) meet the fault.
    pub fn script(&self, verb: Verb, resource: &str, times: u32, fault: Fault) {
        self.shared.script.lock().expect("lock").add(verb, resource, times, fault);
    }

    /// Forgets all faults that have not been met.
    pub fn clear_script(&self) {
        self.shared.script.lock().expect("lock").clear();
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("lock").clone()
    }

    /// How many requests of this verb for this resource (`*`: any) were received.
    pub fn count(&self, verb: Verb, resource: &str) -> usize {
        let seen = self.shared.seen.lock().expect("lock");
        seen.iter().filter(|seen| seen.verb == verb && (resource == "*" || seen.resource == resource)).count()
    }

    /// Cuts all connections and refuses new ones. Objects stay and may be changed.
    pub async fn stop(&self) {
        let running = self.running.lock().expect("lock").take();
        if let Some(task) = running {
            task.abort();
            // The listener is closed once the task is gone.
            let _ = task.await;
        }
    }

    /// Serves again, on the same port.
    pub async fn restart(&self) {
        self.stop().await;
        let listener = TcpListener::bind(self.address).await.expect("the port is still ours");
        self.serve(listener);
    }

    /// Cuts all open connections and goes on serving.
    pub async fn cut(&self) {
        self.restart().await;
    }

    fn serve(&self, listener: TcpListener) {
        let shared = self.shared.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((stream, _)) = accepted {
                            let _ = stream.set_nodelay(true);
                            connections.spawn(connection(stream, shared.clone()));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        *self.running.lock().expect("lock") = Some(task);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(task) = self.running.lock().expect("lock").take() {
            task.abort();
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer::answer(request, shared).await) }
    });
    // An error is a client that went away, or a fault that was asked for.
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}
