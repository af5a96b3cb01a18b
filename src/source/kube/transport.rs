//! Requests and bodies over the client, with every wait bounded.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use kube::client::{Body, Client};
use tokio::time::timeout;

use super::connect::describe;
use super::decode::error_response;
use super::step::Failure;
use super::stream::Encoding;

/// Who asks; the API server's audit log shows it.
const AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"), " (linux)");
/// So much of an error's body is read.
const ERROR_BODY_MAX: usize = 64 << 10;

/// An answer that is not an error.
pub(super) struct Answer {
    pub encoding: Encoding,
    pub body: Body,
}

/// Sends a GET. An answer with an error status is a failure; a good one has a body to read.
///
/// Compression is declined: some servers compress each event of a watch as a stream of its own, and a proxy on the
/// server's network gains nothing.
pub(super) async fn get(client: &Client, url: &str, accept: &'static str, wait: Duration) -> Result<Answer, Failure> {
    let request = Request::get(url)
        .header(ACCEPT, accept)
        .header(ACCEPT_ENCODING, "identity")
        .header(USER_AGENT, AGENT)
        .body(Body::empty())
        .map_err(|error| Failure::Unreachable(describe(&error)))?;
    let response = match timeout(wait, client.send(request)).await {
        Err(_) => return Err(Failure::Stalled("no answer to a request")),
        Ok(Err(error)) => return Err(Failure::Unreachable(describe(&error))),
        Ok(Ok(response)) => response,
    };
    if !response.status().is_success() {
        return Err(read_error(response, wait).await);
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Ok(Answer { encoding: Encoding::of(content_type), body: response.into_body() })
}

async fn read_error(response: Response<Body>, wait: Duration) -> Failure {
    let code = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    // Whatever arrives of the explanation will do: the status is known.
    let mut body = response.into_body();
    let mut text = BytesMut::new();
    while let Ok(Some(Ok(bytes))) = timeout(wait, next_chunk(&mut body)).await {
        text.extend_from_slice(&bytes);
        if text.len() > ERROR_BODY_MAX {
            break;
        }
    }
    error_response(code, &text, retry_after)
}

/// `Retry-After` in seconds; the API server does not use the form with a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Reads a whole body of bounded length; each chunk must come within `wait`.
pub(super) async fn read_all(mut body: Body, max: usize, wait: Duration) -> Result<Bytes, Failure> {
    let mut all = BytesMut::new();
    loop {
        match timeout(wait, next_chunk(&mut body)).await {
            Err(_) => return Err(Failure::Stalled("a list stopped halfway")),
            Ok(None) => return Ok(all.freeze()),
            Ok(Some(chunk)) => all.extend_from_slice(&chunk?),
        }
        if all.len() > max {
            return Err(Failure::TooLarge(max));
        }
    }
}

/// The next bytes; `None` at the end of the body. May be dropped before it is ready without losing anything.
pub(super) async fn next_chunk(body: &mut Body) -> Option<Result<Bytes, Failure>> {
    loop {
        match body.frame().await? {
            Err(error) => return Some(Err(Failure::HungUp(describe(&error)))),
            // Trailers carry nothing.
            Ok(frame) => {
                if let Ok(bytes) = frame.into_data() {
                    return Some(Ok(bytes));
                }
            }
        }
    }
}
