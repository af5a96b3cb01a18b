//! Opens and closes health checks.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::page::Page;
use super::plan::{Difference, difference, sockets};
use super::{CONNECTIONS, Failure, IsHealthy, NodePortsConfig, Told};
use crate::model::NodePortAddresses;
use crate::net::{Family, ObjectName, PerFamily};
use crate::resolve::health::HealthPort;
use crate::serve::http::{Bind, Connections, Limits, ListenError, Listener, Server, listen};

type Key = (ObjectName, Family);

/// The task that has all health checks.
pub(super) struct Keeper {
    told: Arc<Told>,
    node_name: Arc<str>,
    addresses: watch::Receiver<PerFamily<NodePortAddresses>>,
    on_failure: Box<dyn FnMut(&Failure) + Send>,
    checks: BTreeMap<Key, Check>,
    /// Those that lack sockets.
    lacking: BTreeSet<Key>,
    sockets: Sockets,
}

/// The health check of one service in one family.
struct Check {
    /// `None`: not wanted any more.
    port: Option<u16>,
    page: Page,
    open: BTreeMap<SocketAddr, Server>,
    /// What was told last, as long as it lasts.
    failed: Option<ListenError>,
}

/// What all sockets have in common.
struct Sockets {
    is_healthy: IsHealthy,
    limits: Limits,
    connections: Arc<Connections>,
    count: usize,
    most: usize,
}

impl Keeper {
    pub(super) fn new(config: NodePortsConfig, told: Arc<Told>) -> Self {
        let NodePortsConfig { node_name, addresses, is_healthy, on_failure, limits, most_listeners: most } = config;
        let connections = Connections::limited(CONNECTIONS);
        Keeper {
            told,
            node_name,
            addresses,
            on_failure,
            checks: BTreeMap::new(),
            lacking: BTreeSet::new(),
            sockets: Sockets { is_healthy, limits, connections, count: 0, most },
        }
    }

    /// Until told to stop.
    pub(super) async fn run(mut self) {
        let told = self.told.clone();
        let mut retry_at = None;
        // Whoever tells where node ports are may go before us: the addresses stay what they were.
        let mut followed = true;
        loop {
            let (mut touched, mut retry) = (BTreeSet::new(), false);
            tokio::select! {
                () = told.news.notified() => match told.take() {
                    Some(changes) => touched = self.take_in(changes),
                    None => break,
                },
                changed = self.addresses.changed(), if followed => {
                    followed = changed.is_ok();
                    touched = self.checks.keys().cloned().collect();
                }
                () = at(retry_at) => retry = true,
            };
            self.settle(touched, retry).await;
            let next = || Instant::now() + self.sockets.limits.retry;
            retry_at = match retry_at {
                _ if self.lacking.is_empty() => None,
                Some(at) if !retry => Some(at),
                _ => Some(next()),
            };
        }
        for check in std::mem::take(&mut self.checks).into_values() {
            self.sockets.close_all(check.open).await;
        }
    }

    /// Notes what is wanted; returns what may need other sockets.
    fn take_in(&mut self, changes: BTreeMap<ObjectName, Option<HealthPort>>) -> BTreeSet<Key> {
        let mut touched = BTreeSet::new();
        for (service, wanted) in changes {
            for family in Family::ALL {
                let wanted = wanted.and_then(|wanted| Some((wanted.port, (*wanted.local.get(family))?)));
                if self.want((service.clone(), family), wanted) {
                    touched.insert((service.clone(), family));
                }
            }
        }
        touched
    }

    /// Port and count of one check. True if its sockets may differ from what is wanted now.
    fn want(&mut self, key: Key, wanted: Option<(u16, usize)>) -> bool {
        let Some((port, local)) = wanted else {
            return self.checks.get_mut(&key).is_some_and(|check| check.port.take().is_some());
        };
        let check = self.checks.entry(key).or_insert_with_key(|(service, _)| Check::new(service.clone()));
        check.page.count(local);
        check.port.replace(port) != Some(port)
    }

    /// First closes all that is to be closed, since what is opened may need the port of it; then opens. What lacked sockets
    /// before is tried again if that is asked for, and if something was closed.
    async fn settle(&mut self, touched: BTreeSet<Key>, retry: bool) {
        let addresses = self.addresses.borrow_and_update().clone();
        let mut closed = false;
        for key in &touched {
            closed |= self.close(key, &addresses).await;
        }
        let again = if retry || closed { std::mem::take(&mut self.lacking) } else { BTreeSet::new() };
        for key in touched.union(&again) {
            self.open(key, &addresses);
            // Thousands of sockets must not keep everyone else waiting.
            tokio::task::yield_now().await;
        }
    }

    /// Closes what one check has too many. True if it had.
    async fn close(&mut self, key: &Key, addresses: &PerFamily<NodePortAddresses>) -> bool {
        let Some(check) = self.checks.get_mut(key) else { return false };
        let close = check.difference(key.1, addresses).close;
        for address in &close {
            if let Some(server) = check.open.remove(address) {
                self.sockets.close(server).await;
            }
        }
        if check.port.is_none() {
            tracing::debug!(service = %key.0, family = key.1.as_str(), "health check closed");
            self.checks.remove(key);
            self.lacking.remove(key);
        }
        !close.is_empty()
    }

    /// Opens what one check lacks.
    fn open(&mut self, key: &Key, addresses: &PerFamily<NodePortAddresses>) {
        let Some(check) = self.checks.get_mut(key) else { return };
        let (service, family) = (&key.0, key.1);
        let Some(port) = check.port else { return };
        let open = check.difference(family, addresses).open;
        self.lacking.remove(key);
        let Err(error) = check.open(open, &mut self.sockets) else {
            tracing::debug!(%service, family = family.as_str(), port, "health check open");
            if check.failed.take().is_some() {
                tracing::info!(%service, family = family.as_str(), port, "health check works");
            }
            return;
        };
        let is_known = check.failed.as_ref().is_some_and(|told| told.is_like(&error));
        if !is_known {
            let node_name = self.node_name.clone();
            let failure = Failure { node_name, service: service.clone(), family, port, error };
            tracing::error!(retry_in = ?self.sockets.limits.retry, "{failure}");
            (self.on_failure)(&failure);
            check.failed = Some(failure.error);
        }
        self.lacking.insert(key.clone());
    }
}

impl Check {
    fn new(service: ObjectName) -> Self {
        Check { port: None, page: Page::new(service), open: BTreeMap::new(), failed: None }
    }

    fn difference(&self, family: Family, addresses: &PerFamily<NodePortAddresses>) -> Difference {
        let wanted = self.port.map(|port| sockets(family, port, addresses.get(family))).unwrap_or_default();
        difference(self.open.keys(), &wanted)
    }

    /// Opens all or none where nothing is open; beside what is open, whatever can be.
    fn open(&mut self, addresses: Vec<SocketAddr>, sockets: &mut Sockets) -> Result<(), ListenError> {
        let mut failed = None;
        let mut listeners = Vec::new();
        for address in addresses {
            match sockets.listen(address, listeners.len()) {
                Ok(listener) => listeners.push(listener),
                Err(error) if self.open.is_empty() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        for listener in listeners {
            let server = sockets.serve(listener, &self.page);
            self.open.insert(server.address(), server);
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Sockets {
    /// Listens, beside so many listeners that are not counted yet.
    fn listen(&self, address: SocketAddr, uncounted: usize) -> Result<Listener, ListenError> {
        if self.count + uncounted >= self.most {
            let most = self.most;
            let source =
                format!("{most} sockets is all that the limit of open files leaves for them: raise LimitNOFILE");
            return Err(ListenError { address, source: io::Error::other(source) });
        }
        listen(address, Bind::OwnFamily)
    }

    fn serve(&mut self, listener: Listener, page: &Page) -> Server {
        self.count += 1;
        Server::start(listener, page.handler(self.is_healthy.clone()), self.limits, self.connections.clone())
    }

    async fn close(&mut self, server: Server) {
        self.count -= 1;
        server.stop().await;
    }

    async fn close_all(&mut self, servers: BTreeMap<SocketAddr, Server>) {
        for server in servers.into_values() {
            self.close(server).await;
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
