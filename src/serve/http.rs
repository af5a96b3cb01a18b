//! A small HTTP/1.1 server for pages that are made at once: health, metrics, what is configured.
//!
//! ```text
//!  SocketAddr ─► listen ─► Listener ─► Server: accepts ─► Connections: at most so many ─► Handler: request → response
//!                   ▲                     ▲
//!                   └───── Kept: listens, tries again, moves to another address ─────┘
//! ```
//!
//! * [`keep_serving`] is what most endpoints want: it listens now or later, and can be moved and stopped.
//! * [`serve`] is for whoever must know at once whether listening works: the same, or an error.
//! * [`listen`] and [`Server::start`] are the parts, for whoever has many addresses.
//!
//! A handler is a function from a request to a whole response, [`Handler::new`]; one that has to wait for something is
//! made by [`Handler::awaiting`]. A panic in it ends its connection and nothing else.
//!
//! # What bad clients can do
//!
//! A connection that sends nothing, or half a request, is closed after [`Limits::header_time`]; a body after
//! [`Limits::body_time`]. Garbage gets 400, a header that is too large 431, a body that is too large 413. There are at most
//! so many [`Connections`]: where one more comes, the oldest is closed, so that somebody who holds connections open
//! cannot keep a prober out. Where the process has no file descriptor left, the same is done, and accepting waits a while.

mod answer;
mod connections;
mod keep;
mod listen;
mod server;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};

pub use connections::Connections;
pub use keep::{Endpoint, Kept, keep_serving, serve};
pub use listen::{Bind, ListenError, Listener, listen};
pub use server::Server;

type Answer = Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;

/// What makes responses. Cheap to clone.
#[derive(Clone)]
pub struct Handler(Arc<dyn Fn(Parts, Bytes) -> Answer + Send + Sync>);

impl Handler {
    /// Answers at once. The function runs on a worker thread of the runtime: it should take milliseconds at most.
    pub fn new(answer: impl Fn(&Parts, Bytes) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        Handler(Arc::new(move |parts, body| Box::pin(std::future::ready(answer(&parts, body)))))
    }

    /// Answers when the future is ready. It is dropped where the client goes away before.
    pub fn awaiting<F>(answer: impl Fn(Parts, Bytes) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Bytes>> + Send + 'static,
    {
        Handler(Arc::new(move |parts, body| Box::pin(answer(parts, body))))
    }

    /// The response to a request whose body was read.
    pub async fn answer(&self, parts: Parts, body: Bytes) -> Response<Bytes> {
        (self.0)(parts, body).await
    }
}

/// How long and how much a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From accepting a connection, or from the last response, until the header of the next request is complete. A
    /// connection that is kept between requests is closed after this time, so it must be no multiple of anybody's period of
    /// probing: a request that is on its way at that very moment would fail.
    pub header_time: Duration,
    /// Bytes of a header.
    pub header_bytes: usize,
    /// From the end of the header to the end of the body.
    pub body_time: Duration,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// How long responses in flight may take after the server was stopped.
    pub drain_time: Duration,
    /// The pause before listening is tried again (contract 6.1).
    pub retry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header_time: Duration::from_secs(77),
            header_bytes: 64 * 1024,
            body_time: Duration::from_secs(10),
            body_bytes: 64 * 1024,
            drain_time: Duration::from_secs(2),
            retry: Duration::from_secs(5),
        }
    }
}

/// A response with a body of some type, which a browser is told not to guess.
pub fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A line of text, as Go's `http.Error` writes it.
pub fn text(status: StatusCode, line: &str) -> Response<Bytes> {
    page(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

/// 404, as Go's `http.NotFound` writes it.
pub fn not_found() -> Response<Bytes> {
    text(StatusCode::NOT_FOUND, "404 page not found")
}

#[cfg(test)]
mod tests;
