//! The loop that follows one kind: sends what the machine asks for, feeds it what arrives, sends updates on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use kube::client::{Body, Client};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::backoff::{Backoff, Jitter};
use super::decode::Decoder;
use super::health::Health;
use super::negotiation::Negotiation;
use super::problems::ProblemLog;
use super::resource::Resource;
use super::status::Status;
use super::step::{Event, Failure, Input, Machine, Next, Pause, Request, Step};
use super::stream::{Stream, TooLong};
use super::transport::{self, Answer};
use super::tuning::Tuning;
use crate::state::Update;

/// Nobody receives updates any more.
pub(super) struct Closed;

pub(super) struct Reflector {
    resource: Resource,
    client: Client,
    tuning: Tuning,
    machine: Machine,
    decoder: Decoder,
    negotiation: Negotiation,
    health: Health,
    status: Arc<Status>,
    backoff: Backoff,
    jitter: Jitter,
    updates: mpsc::Sender<Vec<Update>>,
    /// Updates of the batch that is being collected.
    pending: Vec<Update>,
}

/// What the loop does next: the machine's answer with durations filled in.
enum Action {
    Request(Request),
    Read,
    Sleep(Duration),
}

/// A watch or streaming list that is being read.
struct Reading {
    body: Body,
    stream: Stream,
    opened: Instant,
    /// The server should have ended the watch by then.
    deadline: Instant,
    /// The initial events should have ended by then. `None` once they have, and for a plain watch.
    list_deadline: Option<Instant>,
    last_bytes: Instant,
}

impl Reflector {
    pub fn new(
        resource: Resource,
        client: Client,
        tuning: Tuning,
        status: Arc<Status>,
        updates: mpsc::Sender<Vec<Update>>,
    ) -> Reflector {
        Reflector {
            machine: Machine::new(resource.kind, tuning.page),
            decoder: Decoder::new(resource.kind, ProblemLog::new(status.clone())),
            negotiation: Negotiation::new(resource.kind),
            health: Health::new(resource.clone(), status.clone()),
            backoff: Backoff::new(&tuning),
            jitter: Jitter::new(),
            pending: Vec::new(),
            resource,
            client,
            tuning,
            status,
            updates,
        }
    }

    /// Follows the kind until nobody receives updates any more.
    pub async fn run(mut self) -> Closed {
        let receiver = self.updates.clone();
        tokio::select! {
            () = receiver.closed() => Closed,
            closed = self.follow() => closed,
        }
    }

    async fn follow(&mut self) -> Closed {
        let mut action = self.step(Input::Resume);
        loop {
            if self.flush().await.is_err() {
                return Closed;
            }
            action = match action {
                Action::Request(request) => match self.request(request).await {
                    Ok(action) => action,
                    Err(closed) => return closed,
                },
                Action::Sleep(wait) => {
                    tokio::time::sleep(wait).await;
                    self.step(Input::Resume)
                }
                // Nothing is open: ask the machine what should be.
                Action::Read => self.step(Input::Resume),
            };
        }
    }

    async fn request(&mut self, request: Request) -> Result<Action, Closed> {
        let seconds = self.watch_seconds();
        let began = Instant::now();
        match &request {
            Request::List { continue_token: None, .. } | Request::StreamingList => {
                self.decoder.problems.list_begins();
            }
            Request::Watch { resource_version } => {
                self.decoder.sweep();
                // Bookmarks moved it on where no update did.
                self.status.update(self.resource.kind, |status| {
                    status.resource_version = Some(resource_version.clone());
                });
            }
            Request::List { .. } => {}
        }
        let url = self.resource.url(&request, seconds);
        tracing::debug!(kind = ?self.resource.kind, url, "request");
        let accept = self.negotiation.accept();
        let answer = match transport::get(&self.client, &url, accept, self.tuning.response).await {
            Ok(answer) => answer,
            // The machine has the same request again.
            Err(failure) if self.negotiation.refused(&failure) => return Ok(self.step(Input::Resume)),
            Err(failure) => return Ok(self.failed(failure)),
        };
        self.health.answered();
        if matches!(request, Request::List { .. }) {
            return Ok(self.page(answer).await);
        }
        let is_list = matches!(request, Request::StreamingList);
        let opened = Instant::now();
        self.read(Reading {
            body: answer.body,
            stream: Stream::new(answer.encoding, self.tuning.line_max),
            opened,
            deadline: began + Duration::from_secs(seconds) + self.tuning.watch_grace,
            list_deadline: is_list.then(|| opened + self.tuning.initial_events),
            last_bytes: opened,
        })
        .await
    }

    /// How long the server is asked to keep a watch.
    fn watch_seconds(&mut self) -> u64 {
        let jitter = self.tuning.watch_jitter.mul_f64(self.jitter.fraction());
        (self.tuning.watch + jitter).as_secs().max(1)
    }

    async fn page(&mut self, Answer { encoding, body }: Answer) -> Action {
        let bytes = match transport::read_all(body, self.tuning.page_max, self.tuning.response).await {
            Ok(bytes) => bytes,
            Err(failure) => return self.failed(failure),
        };
        match self.decoder.page(encoding, &bytes) {
            Ok(page) => {
                self.negotiation.was_read();
                self.step(Input::Page(page))
            }
            Err(failure) => {
                self.negotiation.failed(encoding, &failure);
                self.failed(failure)
            }
        }
    }

    /// Reads a watch to its end. What has arrived together is sent on together.
    async fn read(&mut self, mut reading: Reading) -> Result<Action, Closed> {
        let action = loop {
            self.flush().await?;
            let wake = self.wake(&reading);
            match timeout_at(wake.into(), transport::next_chunk(&mut reading.body)).await {
                Err(_) => {
                    if let Some(action) = self.timer(&reading) {
                        break action;
                    }
                }
                Ok(chunk) => {
                    if let Some(action) = self.take_arrived(&mut reading, chunk).await {
                        break action;
                    }
                }
            }
        };
        Ok(action)
    }

    /// Feeds a chunk and all that is ready after it, up to a batch. `None`: go on reading.
    async fn take_arrived(
        &mut self,
        reading: &mut Reading,
        first: Option<Result<bytes::Bytes, Failure>>,
    ) -> Option<Action> {
        let mut chunk = first;
        loop {
            match chunk {
                None => return Some(self.ended(reading)),
                Some(Err(failure)) => return Some(self.broke(reading, failure)),
                Some(Ok(bytes)) => reading.stream.push(&bytes),
            }
            reading.last_bytes = Instant::now();
            if let Some(action) = self.feed(reading) {
                return Some(action);
            }
            if self.pending.len() >= self.tuning.batch {
                return None;
            }
            chunk = next_arrived(&mut reading.body).await?;
        }
    }

    /// Feeds the events that are complete. `None`: go on reading.
    fn feed(&mut self, reading: &mut Reading) -> Option<Action> {
        loop {
            let action = match self.next_event(reading) {
                Ok(None) => return None,
                Ok(Some(event)) => self.step(Input::Event(event)),
                Err(failure) => {
                    self.negotiation.failed(reading.stream.encoding(), &failure);
                    self.broke(reading, failure)
                }
            };
            if !matches!(action, Action::Read) {
                return Some(action);
            }
            if self.machine.resource_version().is_some() {
                reading.list_deadline = None;
            }
        }
    }

    fn next_event(&mut self, reading: &mut Reading) -> Result<Option<Event>, Failure> {
        let next = reading.stream.next().map_err(|TooLong| Failure::TooLarge(self.tuning.line_max))?;
        let Some(bytes) = next else { return Ok(None) };
        let event = self.decoder.event(reading.stream.encoding(), &bytes)?;
        self.negotiation.was_read();
        Ok(Some(event))
    }

    /// When to look at the clocks if nothing arrives.
    fn wake(&self, reading: &Reading) -> Instant {
        let idle = reading.last_bytes + self.tuning.idle;
        let ends = reading.deadline.min(idle);
        let ends = reading.list_deadline.map_or(ends, |list| ends.min(list));
        self.health.over_at(self.tuning.steady).map_or(ends, |over| ends.min(over))
    }

    /// Looks at the clocks. `None`: go on reading.
    fn timer(&mut self, reading: &Reading) -> Option<Action> {
        let now = Instant::now();
        self.check_recovered(now);
        if reading.list_deadline.is_some_and(|deadline| now >= deadline) {
            return Some(self.broke(reading, Failure::EndlessInitialEvents));
        }
        if now >= reading.deadline {
            return Some(self.broke(reading, Failure::Stalled("a watch did not end in its time")));
        }
        // Not an outage: bookmarks are a courtesy. The watch goes on where it was.
        (now >= reading.last_bytes + self.tuning.idle).then(|| self.ended(reading))
    }

    fn check_recovered(&mut self, now: Instant) {
        if self.health.over_at(self.tuning.steady).is_some_and(|over| now >= over) {
            self.health.recovered();
        }
    }

    /// The server ended the watch. One that ends at once, again and again, must not be opened without a pause.
    fn ended(&mut self, reading: &Reading) -> Action {
        if reading.stream.is_cut_off() {
            return self.broke(reading, Failure::HungUp("in the middle of an event".to_owned()));
        }
        if reading.opened.elapsed() < self.tuning.short_watch {
            return self.broke(reading, Failure::HungUp("the watch ended as soon as it began".to_owned()));
        }
        self.lasted(reading);
        // An end that is in order for a watch is a failure of a list.
        if reading.list_deadline.is_some() {
            return self.failed(Failure::HungUp("the watch ended before its initial events did".to_owned()));
        }
        self.step(Input::Ended)
    }

    fn broke(&mut self, reading: &Reading, failure: Failure) -> Action {
        self.lasted(reading);
        self.failed(failure)
    }

    fn lasted(&mut self, reading: &Reading) {
        self.check_recovered(Instant::now());
        if reading.opened.elapsed() >= self.tuning.backoff_reset {
            self.backoff.reset();
        }
    }

    fn failed(&mut self, failure: Failure) -> Action {
        let was_streaming = self.machine.is_streaming();
        let action = self.step(Input::Failed(failure.clone()));
        match (&action, &failure) {
            (Action::Sleep(wait), Failure::Missing(_)) if self.is_absent_api() => self.health.absent(*wait),
            (Action::Sleep(wait), _) => self.health.failed(&failure, *wait),
            (Action::Request(_) | Action::Read, _) => {}
        }
        if was_streaming && !self.machine.is_streaming() {
            let kind = self.resource.kind;
            tracing::info!(?kind, "API server: no streaming lists ({failure}); listing in pages");
        }
        action
    }

    fn is_absent_api(&self) -> bool {
        self.resource.kind == crate::state::Kind::ServiceCidr
    }

    /// One step of the machine; its update joins the batch.
    fn step(&mut self, input: Input) -> Action {
        let Step { update, next } = self.machine.step(input);
        if let Some(update) = update {
            if let Update::Replace { facts, .. } = &update {
                self.decoder.problems.list_ends();
                self.health.synced(facts.len());
            }
            self.pending.push(update);
        }
        match next {
            Next::Request(request) => Action::Request(request),
            Next::Read => Action::Read,
            Next::Wait(Pause::Backoff { at_least }) => Action::Sleep(self.backoff.next(at_least, &mut self.jitter)),
            Next::Wait(Pause::AbsentApi) => Action::Sleep(self.tuning.absent_api),
        }
    }

    /// Sends the batch.
    async fn flush(&mut self) -> Result<(), Closed> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let version = self.machine.resource_version().map(str::to_owned);
        let streaming = self.machine.is_streaming();
        self.status.update(self.resource.kind, |status| {
            status.resource_version = version.or(status.resource_version.take());
            status.streaming_list = streaming;
        });
        let batch = std::mem::take(&mut self.pending);
        self.updates.send(batch).await.map_err(|_| Closed)
    }
}

/// The next chunk if it has arrived; `None` if there is none yet. Another task reads the connection, a chunk at a time:
/// it gets its turn once, so that what lies in the socket counts as arrived. Nothing waits for what does not.
async fn next_arrived(body: &mut Body) -> Option<Option<Result<bytes::Bytes, Failure>>> {
    if let Some(chunk) = transport::next_chunk(body).now_or_never() {
        return Some(chunk);
    }
    tokio::task::yield_now().await;
    transport::next_chunk(body).now_or_never()
}
