//! Nothing begins before the Node is known as well as it must be (contract 1.10).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::fit::Check;
use crate::cmd::Failure;
use crate::cmd::options::{DetectLocalMode, NodePortAddress, RuleOptions};
use crate::engine::Handle;
use crate::node::{Limits, Step, Waiting, WaitsFor};
use crate::state::Node;

/// Open once the Node is known, or was waited for long enough.
pub struct NodeGate {
    began: Instant,
    seen: Mutex<Seen>,
    changed: Notify,
    open: AtomicBool,
    /// Asked when it opens.
    check: Check,
}

struct Seen {
    waiting: Waiting,
    /// The source has told of all Nodes.
    listed: bool,
    node: Option<Node>,
}

impl NodeGate {
    /// Open from the start: a folder need not tell of a Node.
    pub fn open() -> Self {
        let gate = NodeGate::waiting(WaitsFor { node: String::new(), pod_cidrs: false }, Limits::default());
        gate.open.store(true, Ordering::Release);
        gate
    }

    /// Closed until the API server has told what rules depend on. The addresses of the node are waited for only where
    /// rules need them to be right: elsewhere they are followed as they come, and nothing is gained by serving later.
    pub fn of(node_name: &str, rules: &RuleOptions) -> Self {
        let pod_cidrs = rules.detect_local_mode == DetectLocalMode::NodeCidr;
        let addresses = rules.node_port_addresses().any(|address| address == NodePortAddress::Primary);
        let limits = Limits::default();
        let address = if pod_cidrs || addresses { limits.address } else { Duration::ZERO };
        NodeGate::waiting(WaitsFor { node: node_name.to_owned(), pod_cidrs }, Limits { address, ..limits })
    }

    fn waiting(waits_for: WaitsFor, limits: Limits) -> Self {
        NodeGate {
            began: Instant::now(),
            seen: Mutex::new(Seen { waiting: Waiting::new(waits_for, limits), listed: false, node: None }),
            changed: Notify::new(),
            open: AtomicBool::new(false),
            check: Box::new(|_| Ok(())),
        }
    }

    /// With a check of the configuration, once the Node is known.
    #[must_use]
    pub fn checking(self, check: Check) -> Self {
        NodeGate { check, ..self }
    }

    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// What is known of the Node. [`NodeGate::keep`] says what follows.
    pub fn node_is(&self, listed: bool, node: Option<&Node>) {
        if self.is_open() {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.listed != listed || seen.node.as_ref() != node {
            (seen.listed, seen.node) = (listed, node.cloned());
            drop(seen);
            self.changed.notify_one();
        }
    }

    fn look(&self) -> Step {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Seen { waiting, listed, node } = &mut *seen;
        waiting.look(self.began.elapsed(), *listed, node.as_ref())
    }

    /// Opens the gate when it is time, and tells the engine.
    ///
    /// # Errors
    /// The Node did not come in time, and without it there are no rules that are right; the configuration does not fit it.
    pub async fn keep(&self, engine: &Handle) -> Result<(), Failure> {
        let mut is_known = self.is_open();
        while !is_known {
            let (until, told) = match self.look() {
                Step::Wait { until, told } => (until, told),
                Step::Go { told } => {
                    is_known = true;
                    (None, told)
                }
                Step::Fail(timeout) => return Err(Failure::new(timeout.to_string())),
            };
            match told {
                Some(told) if told.is_warning() => tracing::warn!("{told}"),
                Some(told) => tracing::info!("{told}"),
                None => {}
            }
            if is_known {
                break;
            }
            let late = async {
                match until {
                    Some(until) => tokio::time::sleep_until((self.began + until).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = late => {}
            }
        }
        (self.check)(self.seen.lock().unwrap_or_else(PoisonError::into_inner).node.as_ref())?;
        self.open.store(true, Ordering::Release);
        engine.facts_may_be_ready();
        Ok(())
    }
}
