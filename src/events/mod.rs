//! Events on Node and Service objects (`events.k8s.io/v1`, contract 1.17): what `kubectl get events` shows of a proxy.
//!
//! [`start`] begins a task that posts, and gives a [`Recorder`]. Recording never waits: what does not find room in the
//! queue is dropped. An event that repeats becomes a series, of which the count is written now and then ([`ledger`]); many
//! different events are limited in their rate. What the API server does not take is tried again for some minutes, and
//! then dropped; a server that forbids events is told of once. Nothing else depends on events, so nothing else fails
//! with them.
//!
//! | Type | Reason | Action | Object | When |
//! |---|---|---|---|---|
//! | Normal | Starting | StartKubeProxy | Node | the node is being served |
//! | Warning | FailedToStartProxierHealthcheck | StartKubeProxy | Node | the health server cannot listen |
//! | Warning | FailedToStartMetricServer | StartKubeProxy | Node | the metrics server cannot listen |
//! | Warning | FailedToStartServiceHealthcheck | Listen | Service | its health check node port cannot be listened on |
//! | Warning | ServicePortRefused | ProgramRules | Service | the kernel refuses a service port |
//! | Normal | ServicePortServed | ProgramRules | Service | and takes it again |
//! | Warning | ServiceAddressTaken | ProgramRules | Service | somebody else has a virtual server there (IPVS mode) |
//! | Warning | UnusableField | ReadService | Service | a field or an annotation that cannot be used |
//! | Warning | RulesChanged | CompareRules | Node | somebody else changed rules |
//! | Normal | ConfigurationReloaded | ReloadConfiguration | Node | a changed configuration is in force |
//! | Warning | ConfigurationRefused | ReloadConfiguration | Node | a changed configuration is not |
//!
//! The first four are kube-proxy's, and so is the reporting controller, `kube-proxy`, since tools select by it.
//! kube-proxy's fifth, IPVSDeprecation, is left out: IPVS mode goes on here.

mod event;
mod ledger;
mod object;
mod post;
mod task;
#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::client::Client;
use tokio::sync::{mpsc, oneshot};

pub use event::{Event, EventType, Regarding};
pub use task::Tuning;

/// What goes to the task.
enum Message {
    /// With the time when it happened.
    Event(Event, Timestamp),
    /// All that came before has been posted or given up.
    Flushed(oneshot::Sender<()>),
}

/// Records events. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// `None`: there is nowhere to post to.
    queue: Option<mpsc::Sender<Message>>,
}

impl Recorder {
    /// Drops every event: facts come from a folder.
    pub fn nowhere() -> Self {
        Recorder::default()
    }

    /// Records an event that happens now. Never waits and never fails.
    pub fn record(&self, event: Event) {
        tracing::debug!(reason = event.reason, regarding = %event.regarding, note = event.note, "event");
        if let Some(queue) = &self.queue
            && let Err(mpsc::error::TrySendError::Full(_)) = queue.try_send(Message::Event(event, Timestamp::now()))
        {
            tracing::debug!("the event is dropped: too many are waiting for the API server");
        }
    }

    /// Waits until all that was recorded is posted or given up, for so long at most: for a process that is about to end.
    pub async fn flushed(&self, at_most: Duration) {
        let Some(queue) = &self.queue else { return };
        let (done, posted) = oneshot::channel();
        let flush = async {
            if queue.send(Message::Flushed(done)).await.is_ok() {
                let _ = posted.await;
            }
        };
        // What is late is lost.
        let _ = tokio::time::timeout(at_most, flush).await;
    }
}

/// Starts posting in the name of the proxy of this node. The task ends with the last recorder.
///
/// Must be called within a tokio runtime.
pub fn start(client: Client, node_name: &str) -> Recorder {
    start_tuned(client, node_name, Tuning::default())
}

/// With other bounds and waits, for tests.
pub fn start_tuned(client: Client, node_name: &str, tuning: Tuning) -> Recorder {
    let (queue, messages) = mpsc::channel(tuning.queue);
    tokio::spawn(task::run(client, node_name.to_owned(), tuning, messages));
    Recorder { queue: Some(queue) }
}
