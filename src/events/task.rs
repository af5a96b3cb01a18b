//! The task that posts.

use std::time::{Duration, Instant};

use kube::client::Client;
use tokio::sync::mpsc;

use super::Message;
use super::ledger::{Entry, Ledger};
use super::post::{Failure, Poster};

/// Bounds and waits. The default is for production.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Events that may wait to be posted; what comes on top is dropped.
    pub queue: usize,
    /// New events that may be created at once, and how long it takes until one more may.
    pub burst: u32,
    pub refill: Duration,
    /// Events that are remembered, in case they happen again.
    pub known: usize,
    /// An event that has not happened for so long is forgotten. The count of a series is written this often.
    pub quiet: Duration,
    /// How often series are looked at.
    pub look: Duration,
    /// Longest wait for an answer.
    pub response: Duration,
    /// Tries before an event is given up.
    pub tries: u32,
    /// The first wait between them, which doubles up to the longest one.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            queue: 1000,
            burst: 25,
            refill: Duration::from_secs(10),
            known: 500,
            quiet: Duration::from_secs(360),
            look: Duration::from_secs(60),
            response: Duration::from_secs(15),
            tries: 12,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
        }
    }
}

/// Posts what comes, until nobody can record any more.
pub(super) async fn run(client: Client, node_name: String, tuning: Tuning, mut messages: mpsc::Receiver<Message>) {
    let (began, look) = (Instant::now(), tuning.look);
    let poster = Poster { client, node_name, response: tuning.response };
    let mut task = Task { ledger: Ledger::new(&tuning), poster, tuning, trouble: Trouble::default() };
    loop {
        match tokio::time::timeout(look, messages.recv()).await {
            Ok(None) => return,
            Ok(Some(Message::Flushed(done))) => {
                // Whoever asked may have left.
                let _ = done.send(());
            }
            Ok(Some(Message::Event(event, at))) => match task.ledger.take(event, at, began.elapsed()) {
                Ok(Some(entry)) => task.post(entry).await,
                Ok(None) => {}
                Err(()) => task.trouble.too_many(),
            },
            Err(_) => {}
        }
        for entry in task.ledger.due(began.elapsed()) {
            task.post(entry).await;
        }
    }
}

struct Task {
    ledger: Ledger,
    poster: Poster,
    tuning: Tuning,
    trouble: Trouble,
}

impl Task {
    /// Posts one event, with as many tries as it takes or is worth.
    async fn post(&mut self, entry: Entry) {
        let mut wait = self.tuning.backoff_min;
        for tried in 1.. {
            let failure = match self.poster.write(&entry).await {
                Ok(()) => return self.trouble.over(),
                Err(failure) => failure,
            };
            self.trouble.is(&failure);
            if !failure.may_pass() || tried >= self.tuning.tries {
                tracing::debug!(reason = entry.event.reason, %failure, tried, "the event is dropped");
                self.trouble.dropped += u64::from(failure.may_pass());
                return self.ledger.forget(&entry.event);
            }
            let asked = match failure {
                Failure::Busy { after, .. } => after.unwrap_or_default(),
                _ => Duration::ZERO,
            };
            tokio::time::sleep(wait.max(asked.min(self.tuning.backoff_max))).await;
            wait = (wait * 2).min(self.tuning.backoff_max);
        }
    }
}

/// The same is told again after this long.
const AGAIN: Duration = Duration::from_secs(600);

/// What was told of failures, and when.
#[derive(Debug, Default)]
struct Trouble {
    told: Vec<(&'static str, Instant)>,
    /// Events that might have been posted later, and were not, since events were posted.
    dropped: u64,
    /// The end is to be told.
    is_open: bool,
}

impl Trouble {
    fn is(&mut self, failure: &Failure) {
        let kind = match failure {
            Failure::Unreachable(_) => "unreachable",
            Failure::Slow(_) => "slow",
            Failure::Busy { .. } => "busy",
            Failure::Denied { .. } => "denied",
            Failure::Missing(_) => "missing",
            Failure::Refused { .. } => "refused",
        };
        if !self.is_news(kind) {
            return;
        }
        match failure {
            Failure::Denied { .. } => tracing::error!(
                "API server: events are forbidden, and dropped: {failure}: allow create and patch on events of \
                 events.k8s.io (RBAC) to the user of this proxy"
            ),
            failure if failure.may_pass() => {
                self.is_open = true;
                tracing::warn!("API server: cannot post an event, trying again for some minutes: {failure}");
            }
            _ => tracing::warn!("API server: an event is dropped: {failure}"),
        }
    }

    fn over(&mut self) {
        if std::mem::take(&mut self.is_open) {
            tracing::info!(dropped = self.dropped, "API server: events are posted again");
            self.dropped = 0;
        }
    }

    fn too_many(&mut self) {
        if self.is_news("too many") {
            tracing::warn!("too many different events: some are only in this log");
        }
    }

    fn is_news(&mut self, kind: &'static str) -> bool {
        self.told.retain(|(_, at)| at.elapsed() < AGAIN);
        let is_news = !self.told.iter().any(|(told, _)| *told == kind);
        if is_news {
            self.told.push((kind, Instant::now()));
        }
        is_news
    }
}
