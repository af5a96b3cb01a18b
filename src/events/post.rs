//! Requests to the API server.

use std::error::Error;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use kube::client::{Body, Client};
use serde::Deserialize;
use tokio::time::timeout;

use super::ledger::Entry;
use super::object;

const AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"), " (linux)");
const JSON: &str = "application/json";
const MERGE: &str = "application/strategic-merge-patch+json";
/// So much of an answer is read.
const ANSWER_MAX: usize = 64 << 10;
/// So much of a message is logged, in characters.
const MESSAGE_MAX: usize = 200;

/// Why an event was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("status {code}: {message}")]
    Busy { code: u16, message: String, after: Option<Duration> },
    #[error("status {code}: {message}")]
    Denied { code: u16, message: String },
    /// There is no such event, no such namespace, or no such API.
    #[error("status 404: {0}")]
    Missing(String),
    #[error("status {code}: {message}")]
    Refused { code: u16, message: String },
}

impl Failure {
    /// The same request may be taken later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Failure::Unreachable(_) | Failure::Slow(_) | Failure::Busy { .. })
    }
}

/// Who posts.
pub(super) struct Poster {
    pub client: Client,
    pub node_name: String,
    /// Longest wait for an answer.
    pub response: Duration,
}

impl Poster {
    /// Creates the event, or tells that it has happened again. A series of which the server has forgotten the event is
    /// created anew.
    pub(super) async fn write(&self, entry: &Entry) -> Result<(), Failure> {
        let Some(series) = entry.series else { return self.create(entry).await };
        let url = format!("{}/{}", url(entry), entry.name);
        let patch = object::patch(series).to_string();
        match self.send(Method::PATCH, &url, MERGE, patch).await {
            Err(Failure::Missing(_)) => self.create(entry).await,
            result => result,
        }
    }

    async fn create(&self, entry: &Entry) -> Result<(), Failure> {
        let event = object::whole(&entry.event, &entry.name, &self.node_name, entry.at, entry.series);
        let text = serde_json::to_string(&event);
        let text = text.map_err(|error| Failure::Refused { code: 0, message: error.to_string() })?;
        match self.send(Method::POST, &url(entry), JSON, text).await {
            // A first try was taken, though its answer got lost.
            Err(Failure::Refused { code: 409, .. }) => Ok(()),
            result => result,
        }
    }

    async fn send(&self, method: Method, url: &str, content: &str, body: String) -> Result<(), Failure> {
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header(CONTENT_TYPE, content)
            .header(ACCEPT, JSON)
            .header(USER_AGENT, AGENT)
            .body(Body::from(body.into_bytes()))
            .map_err(|error| Failure::Refused { code: 0, message: error.to_string() })?;
        let exchange = async {
            let response = self.client.send(request).await.map_err(|error| Failure::Unreachable(causes(&error)))?;
            read(response).await
        };
        timeout(self.response, exchange).await.unwrap_or(Err(Failure::Slow(self.response)))
    }
}

fn url(entry: &Entry) -> String {
    format!("/apis/events.k8s.io/v1/namespaces/{}/events", object::namespace(&entry.event))
}

/// The body of a good answer is read as well, so that the connection can be used again.
async fn read(response: Response<Body>) -> Result<(), Failure> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Status {
        message: String,
    }
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    if status.is_success() {
        return Ok(());
    }
    let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
    let told = serde_json::from_slice::<Status>(&bytes).unwrap_or_default().message;
    let message = told.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX).collect();
    Err(match status.as_u16() {
        code @ (401 | 403) => Failure::Denied { code, message },
        404 => Failure::Missing(message),
        code @ (408 | 429 | 500..) => Failure::Busy { code, message, after: after.map(Duration::from_secs) },
        code => Failure::Refused { code, message },
    })
}

/// An error with its causes, on one line.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}
