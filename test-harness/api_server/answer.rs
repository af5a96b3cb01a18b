//! Answers to requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::encoding::Encoding;
use super::script::{Fault, Verb};
use super::selector::Selector;
use super::store::{API_VERSIONS, Change, Gone, KINDS, Object, Raw};
use super::{Protobuf, Seen, Shared};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;
type Pieces = stream::BoxStream<'static, Result<Bytes, BoxError>>;

/// So many bytes of events are sent in one piece.
const PIECE: usize = 64 << 10;
/// So many changes are taken from the history at once.
const CHANGES: usize = 1000;

/// A request, read.
struct Asked {
    verb: Verb,
    index: usize,
    encoding: Encoding,
    resource: String,
    selector: Selector,
    query: HashMap<String, String>,
}

pub(super) async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    match request.method().as_str() {
        "POST" => return write(Verb::Create, request, &shared).await,
        "PATCH" => return write(Verb::Patch, request, &shared).await,
        _ => {}
    }
    let asked = match read(&request, &shared) {
        Ok(asked) => asked,
        Err((code, message)) => return status(Encoding::Json, code, &message, None),
    };
    let encoding = asked.encoding;
    let fault = shared.script.lock().expect("lock").take(asked.verb, &asked.resource);
    match &fault {
        Some(Fault::Status { code, retry_after }) => return status(encoding, *code, "scripted", *retry_after),
        Some(Fault::NoAnswer) => std::future::pending().await,
        Some(Fault::Text(text)) => return whole(StatusCode::OK, text.clone().into()),
        _ => {}
    }
    let verb = asked.verb;
    let pieces = match verb {
        Verb::List | Verb::Continue => list(&asked, &shared).map(|page| one(page.into())),
        _ => watch(asked, shared, matches!(fault, Some(Fault::NoInitialEventsEnd))),
    };
    let is_watch = matches!(verb, Verb::StreamingList | Verb::Watch);
    match pieces {
        Ok(pieces) => typed(encoding.content_type(is_watch), Response::new(streamed(spoil(encoding, pieces, fault)))),
        Err(Gone) => status(encoding, 410, "The resourceVersion or token is too old", None),
    }
}

/// Takes an event in.
async fn write(verb: Verb, request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    let url = request.uri().path().to_owned();
    let resource = if url.contains("/events") { "events" } else { url.rsplit('/').next().unwrap_or_default() };
    let resource = resource.to_owned();
    shared.seen.lock().expect("lock").push(Seen {
        verb,
        resource: resource.clone(),
        url: url.clone(),
        accept: String::new(),
    });
    let fault = shared.script.lock().expect("lock").take(verb, &resource);
    match fault {
        Some(Fault::Status { code, retry_after }) => return status(Encoding::Json, code, "scripted", retry_after),
        Some(Fault::NoAnswer) => std::future::pending().await,
        Some(Fault::Text(text)) => return whole(StatusCode::OK, text.into()),
        _ => {}
    }
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return status(Encoding::Json, 400, &error.to_string(), None),
    };
    let (code, written) = match verb {
        Verb::Create => shared.events.create(&url, &body),
        _ => shared.events.patch(&url, &body),
    };
    match written {
        Ok(event) => {
            let code = StatusCode::from_u16(code).expect("a status code");
            typed(Encoding::Json.content_type(false), whole(code, event.to_string().into()))
        }
        Err(why) => status(Encoding::Json, code, &why, None),
    }
}

fn read(request: &Request<Incoming>, shared: &Shared) -> Result<Asked, (u16, String)> {
    let path = request.uri().path();
    let raw_query = request.uri().query().unwrap_or_default();
    let query: HashMap<String, String> = raw_query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decode(value)))
        .collect();
    let resource = path.rsplit('/').next().unwrap_or_default().to_owned();
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let index = KINDS.iter().position(|(_, plural, _)| *plural == resource);
    let is_true = |name: &str| query.get(name).is_some_and(|value| value == "true" || value == "1");
    let verb = match (is_true("watch"), is_true("sendInitialEvents"), query.contains_key("continue")) {
        (true, true, _) => Verb::StreamingList,
        (true, false, _) => Verb::Watch,
        (false, _, true) => Verb::Continue,
        (false, _, false) => Verb::List,
    };
    let url = format!("{path}?{}", decode(raw_query));
    shared.seen.lock().expect("lock").push(Seen { verb, resource: resource.clone(), url, accept: accept.clone() });
    let index = index.ok_or((404, format!("the server could not find {path}")))?;
    let encoding =
        match (accept.contains("application/vnd.kubernetes.protobuf"), *shared.protobuf.lock().expect("lock")) {
            (true, Protobuf::Spoken) => Encoding::Protobuf,
            (true, Protobuf::Refused) => return Err((406, "only application/json is spoken here".to_owned())),
            _ => Encoding::Json,
        };
    let selector =
        Selector::parse(query.get("labelSelector").map(String::as_str), query.get("fieldSelector").map(String::as_str))
            .map_err(|message| (400, message))?;
    Ok(Asked { verb, index, encoding, resource, selector, query })
}

/// Undoes percent encoding.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A page of a list. A token is `list-N/OFFSET`: pages come from the same snapshot.
fn list(asked: &Asked, shared: &Shared) -> Result<Vec<u8>, Gone> {
    let (version, snapshot, token, offset) = match asked.query.get("continue") {
        Some(text) => {
            let (token, offset) = text.split_once('/').ok_or(Gone)?;
            let (version, snapshot) = shared.store.kept_list(token)?;
            (version, snapshot, Some(token.to_owned()), offset.parse().map_err(|_| Gone)?)
        }
        None => {
            let (version, all) = shared.store.snapshot(asked.index);
            let selected = all.into_iter().filter(|object| asked.selector.matches(object)).collect::<Vec<_>>();
            (version, Arc::new(selected), None, 0)
        }
    };
    let limit = asked.query.get("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
    let end = limit.map_or(snapshot.len(), |limit: usize| (offset + limit).min(snapshot.len()));
    let token = (end < snapshot.len()).then(|| {
        let token = token.unwrap_or_else(|| shared.store.keep_list(version, snapshot.clone()));
        format!("{token}/{end}")
    });
    let items = snapshot.get(offset..end).unwrap_or_default();
    Ok(asked.encoding.list(asked.index, version, token.as_deref(), items))
}

/// A watch that is being served.
struct Watching {
    asked: Asked,
    shared: Arc<Shared>,
    changed: tokio::sync::watch::Receiver<u64>,
    /// Changes up to this version were sent.
    sent: u64,
    /// Objects of a streaming list that are still to be sent, the last first.
    initial: Vec<Arc<Object>>,
    /// The bookmark that ends the initial events is still to be sent.
    ends_initial: bool,
    ends: Instant,
    next_bookmark: Instant,
    over: bool,
}

fn watch(asked: Asked, shared: Arc<Shared>, forgets_the_end: bool) -> Result<Pieces, Gone> {
    let changed = shared.store.subscribe();
    let from = asked.query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    // Without a version, a watch begins with what is there, as the API server's does.
    let (sent, initial) = if asked.verb == Verb::StreamingList || from == 0 {
        let (version, mut all) = shared.store.snapshot(asked.index);
        all.retain(|object| asked.selector.matches(object));
        all.reverse();
        (version, all)
    } else {
        shared.store.changes(asked.index, from, 0)?;
        (from, Vec::new())
    };
    let seconds = asked.query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(3600);
    let interval = *shared.bookmark_interval.lock().expect("lock");
    let watching = Watching {
        ends_initial: asked.verb == Verb::StreamingList && !forgets_the_end,
        asked,
        shared,
        changed,
        sent,
        initial,
        ends: Instant::now() + Duration::from_secs(seconds),
        next_bookmark: Instant::now() + interval,
        over: false,
    };
    Ok(stream::unfold(watching, |mut watching| async move {
        let piece = watching.next().await?;
        Some((Ok(piece), watching))
    })
    .boxed())
}

impl Watching {
    /// The next piece of the body.
    async fn next(&mut self) -> Option<Bytes> {
        let mut piece = Vec::new();
        while piece.len() < PIECE {
            let Some(object) = self.initial.pop() else { break };
            self.event(&mut piece, "ADDED", &object);
        }
        if self.initial.is_empty() && std::mem::take(&mut self.ends_initial) {
            self.bookmark(&mut piece, true);
        }
        while piece.is_empty() {
            if self.over {
                return None;
            }
            self.changed.borrow_and_update();
            match self.shared.store.changes(self.asked.index, self.sent, CHANGES) {
                Err(Gone) => {
                    self.over = true;
                    piece.extend(self.asked.encoding.event("ERROR", &status_object(410, "scripted")));
                }
                Ok((changes, until)) => {
                    for change in &changes {
                        self.change(&mut piece, change);
                    }
                    self.sent = until;
                    if piece.is_empty() && changes.is_empty() {
                        self.wait(&mut piece).await;
                    }
                }
            }
        }
        Some(piece.into())
    }

    async fn wait(&mut self, piece: &mut Vec<u8>) {
        tokio::select! {
            changed = self.changed.changed() => self.over |= changed.is_err(),
            () = tokio::time::sleep_until(self.ends) => {
                self.bookmark(piece, false);
                self.over = true;
            }
            () = tokio::time::sleep_until(self.next_bookmark) => {
                self.next_bookmark += *self.shared.bookmark_interval.lock().expect("lock");
                self.bookmark(piece, false);
            }
        }
    }

    fn change(&self, piece: &mut Vec<u8>, change: &Change) {
        if let Some(raw) = &change.raw {
            match &**raw {
                Raw::Event(event) => {
                    let event_type = event["type"].as_str().unwrap_or_default();
                    piece.extend(self.asked.encoding.event(event_type, &event["object"]));
                }
                Raw::Bytes(bytes) => piece.extend(bytes),
            }
        }
        let selected =
            |object: &Option<Arc<Object>>| object.clone().filter(|object| self.asked.selector.matches(object));
        match (selected(&change.old), selected(&change.new)) {
            (None, None) => {}
            (None, Some(new)) => self.event(piece, "ADDED", &new),
            (Some(_), Some(new)) => self.event(piece, "MODIFIED", &new),
            // An object that leaves the selection is told in its new state, a deleted one in its last.
            (Some(old), None) => {
                self.event(piece, "DELETED", change.new.as_ref().unwrap_or(&old));
            }
        }
    }

    fn bookmark(&self, piece: &mut Vec<u8>, ends_initial: bool) {
        if self.asked.query.get("allowWatchBookmarks").is_none_or(|value| value != "true") {
            return;
        }
        let (kind, ..) = KINDS[self.asked.index];
        let annotations = if ends_initial { json!({"k8s.io/initial-events-end": "true"}) } else { json!({}) };
        let object = json!({
            "kind": kind,
            "apiVersion": API_VERSIONS[self.asked.index],
            "metadata": {"resourceVersion": self.sent.to_string(), "annotations": annotations},
        });
        piece.extend(self.asked.encoding.event("BOOKMARK", &object));
    }

    fn event(&self, piece: &mut Vec<u8>, event_type: &str, object: &Object) {
        piece.extend(self.asked.encoding.change(event_type, self.asked.index, object));
    }
}

fn status_object(code: u16, message: &str) -> Value {
    let reason = if code == 410 { "Expired" } else { "Scripted" };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code})
}

/// Applies a fault to a body.
fn spoil(encoding: Encoding, pieces: Pieces, fault: Option<Fault>) -> Pieces {
    match fault {
        Some(Fault::HangUpAfter(bytes)) => hang_up_after(pieces, bytes).boxed(),
        Some(Fault::Stall) => stream::pending().boxed(),
        Some(Fault::EndAtOnce) => stream::empty().boxed(),
        Some(Fault::ErrorEvent { code }) => one(encoding.event("ERROR", &status_object(code, "scripted")).into()),
        Some(Fault::Garbage(bytes)) => one(bytes.into()).chain(pieces).boxed(),
        Some(Fault::Slow { size, every }) => slow(pieces, size, every).boxed(),
        _ => pieces,
    }
}

fn one(bytes: Bytes) -> Pieces {
    stream::iter([Ok(bytes)]).boxed()
}

/// An error in the body makes the server cut the connection.
fn hang_up_after(pieces: Pieces, bytes: usize) -> impl Stream<Item = Result<Bytes, BoxError>> {
    stream::unfold((pieces, Some(bytes)), |(mut pieces, left)| async move {
        let left = left?;
        if left == 0 {
            // Let what was sent reach the client before the connection goes.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Some((Err("scripted hang-up".into()), (pieces, None)));
        }
        let mut piece = pieces.next().await?.ok()?;
        piece.truncate(left);
        let left = left - piece.len();
        Some((Ok(piece), (pieces, Some(left))))
    })
}

fn slow(pieces: Pieces, size: usize, every: Duration) -> impl Stream<Item = Result<Bytes, BoxError>> {
    let size = size.max(1);
    stream::unfold((pieces, Bytes::new()), move |(mut pieces, mut rest)| async move {
        if rest.is_empty() {
            rest = pieces.next().await?.ok()?;
        }
        tokio::time::sleep(every).await;
        let piece = rest.split_to(size.min(rest.len()));
        Some((Ok(piece), (pieces, rest)))
    })
}

fn streamed(pieces: Pieces) -> Body {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

fn whole(code: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).map_err(BoxError::from).boxed_unsync());
    *response.status_mut() = code;
    response
}

fn typed(content_type: &'static str, mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn status(encoding: Encoding, code: u16, message: &str, retry_after: Option<u64>) -> Response<Body> {
    let code = StatusCode::from_u16(code).expect("a status code");
    let object = status_object(code.as_u16(), message);
    let mut response = typed(encoding.content_type(false), whole(code, encoding.object(&object).into()));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("Retry-After", seconds.into());
    }
    response
}
