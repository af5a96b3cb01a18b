//! Serves on an address for as long as it is wanted, whatever happens to the address.

use std::net::SocketAddr;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Bind, Connections, Handler, Limits, ListenError, Listener, Server, listen};

/// How many connections an endpoint has open.
const CONNECTIONS: usize = 256;

/// What is served.
#[derive(Clone)]
pub struct Endpoint {
    /// For logs: `healthz`.
    pub name: &'static str,
    pub handler: Handler,
    pub limits: Limits,
}

impl Endpoint {
    /// With the limits that suit everyone.
    pub fn new(name: &'static str, handler: Handler) -> Self {
        Endpoint { name, handler, limits: Limits::default() }
    }
}

/// An endpoint that is kept. Dropped, it stops soon; [`Kept::stop`] waits for that.
#[derive(Debug)]
pub struct Kept {
    /// `Stop`, or where to serve.
    wanted: watch::Sender<Wanted>,
    serving: watch::Receiver<Option<SocketAddr>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Serve(SocketAddr),
    /// No address is configured.
    Nothing,
    Stop,
}

impl Wanted {
    fn at(address: Option<SocketAddr>) -> Self {
        address.map_or(Wanted::Nothing, Wanted::Serve)
    }
}

impl Kept {
    /// From now on on this address, or on none. The old port is closed first, also where listening on the new one fails:
    /// that is tried again, as at the start. The same address is no change.
    pub fn rebind(&self, address: Option<SocketAddr>) {
        let wanted = Wanted::at(address);
        self.wanted.send_if_modified(|now| std::mem::replace(now, wanted) != wanted);
    }

    /// Where it listens; `None` where it does not (yet).
    pub fn serving(&self) -> Option<SocketAddr> {
        *self.serving.borrow()
    }

    /// Where it listens, as that changes.
    pub fn watch(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.serving.clone()
    }

    /// Stops. The port is closed when this returns.
    pub async fn stop(self) {
        self.wanted.send_replace(Wanted::Stop);
        let _ = self.task.await;
    }
}

/// Serves on an address, which may be none for now. Where listening fails, that is logged, `on_failure` is told, and it is
/// tried again every [`Limits::retry`]; neither is told of the same failure twice in a row. Must be called within a
/// runtime.
pub fn keep_serving(
    endpoint: Endpoint,
    address: Option<SocketAddr>,
    on_failure: impl FnMut(&ListenError) + Send + 'static,
) -> Kept {
    keep(endpoint, Wanted::at(address), None, on_failure)
}

/// As [`keep_serving`], but the first listening has to succeed.
///
/// # Errors
/// It did not.
pub fn serve(
    endpoint: Endpoint,
    address: SocketAddr,
    on_failure: impl FnMut(&ListenError) + Send + 'static,
) -> Result<Kept, ListenError> {
    let listener = listen(address, Bind::AnyFamily)?;
    Ok(keep(endpoint, Wanted::Serve(address), Some(listener), on_failure))
}

fn keep(
    endpoint: Endpoint,
    wanted: Wanted,
    listener: Option<Listener>,
    on_failure: impl FnMut(&ListenError) + Send + 'static,
) -> Kept {
    let (wanted, receiver) = watch::channel(wanted);
    let (sender, serving) = watch::channel(listener.as_ref().map(Listener::address));
    let keeper = Keeper { endpoint, wanted: receiver, serving: sender, on_failure: Box::new(on_failure), failed: None };
    Kept { wanted, serving, task: tokio::spawn(keeper.run(listener)) }
}

struct Keeper {
    endpoint: Endpoint,
    wanted: watch::Receiver<Wanted>,
    serving: watch::Sender<Option<SocketAddr>>,
    on_failure: Box<dyn FnMut(&ListenError) + Send>,
    /// What was told last.
    failed: Option<ListenError>,
}

impl Keeper {
    async fn run(mut self, listener: Option<Listener>) {
        // What is wanted may have changed already: serving ends at once then.
        let mut alive = match listener {
            Some(listener) => self.serve(listener).await,
            None => true,
        };
        while alive {
            let wanted = *self.wanted.borrow_and_update();
            alive = match wanted {
                Wanted::Serve(address) => match listen(address, Bind::AnyFamily) {
                    Ok(listener) => self.serve(listener).await,
                    Err(error) => self.rest_after(error).await,
                },
                Wanted::Nothing => self.wanted.changed().await.is_ok(),
                Wanted::Stop => false,
            };
        }
    }

    /// Serves until something else is wanted. False if nobody wants anything any more.
    async fn serve(&mut self, listener: Listener) -> bool {
        let address = listener.address();
        self.failed = None;
        tracing::info!(endpoint = self.endpoint.name, %address, "serving");
        let connections = Connections::limited(CONNECTIONS);
        let server = Server::start(listener, self.endpoint.handler.clone(), self.endpoint.limits, connections);
        self.serving.send_replace(Some(address));
        let alive = self.wanted.changed().await.is_ok();
        server.stop().await;
        self.serving.send_replace(None);
        alive
    }

    async fn rest_after(&mut self, error: ListenError) -> bool {
        if !self.failed.as_ref().is_some_and(|told| told.is_like(&error)) {
            let retry_in = self.endpoint.limits.retry;
            tracing::error!(endpoint = self.endpoint.name, ?retry_in, "{error}");
            (self.on_failure)(&error);
            self.failed = Some(error);
        }
        tokio::select! {
            changed = self.wanted.changed() => changed.is_ok(),
            () = tokio::time::sleep(self.endpoint.limits.retry) => true,
        }
    }
}
