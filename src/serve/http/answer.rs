//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::pin::pin;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Handler, Limits, text};

/// Ready when the server is stopped, or dropped.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error is a dropped sender.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Answers requests until the client has enough, does not keep to the limits, or the server is stopped.
pub(super) async fn converse(stream: TcpStream, handler: Handler, limits: Limits, mut stop: watch::Receiver<bool>) {
    // Responses are written whole; only latency is at stake.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(answer(&handler, request, limits).await.map(Full::new)) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_time).max_header_size(limits.header_bytes);
    // Names as Go writes them. A client may close its side and wait for the answer: `printf ... | nc` does.
    http.title_case_headers(true).half_close(true);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopped(&mut stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(limits.drain_time, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a client's connection ended");
    }
}

/// Reads the body within the limits and has the request answered.
async fn answer(handler: &Handler, request: Request<Incoming>, limits: Limits) -> Response<Bytes> {
    let (parts, body) = request.into_parts();
    let read = timeout(limits.body_time, Limited::new(body, limits.body_bytes).collect()).await;
    let refused = match read {
        Ok(Ok(body)) => return handler.answer(parts, body.to_bytes()).await,
        Ok(Err(error)) if error.is::<LengthLimitError>() => StatusCode::PAYLOAD_TOO_LARGE,
        Ok(Err(_)) => StatusCode::BAD_REQUEST,
        Err(_) => StatusCode::REQUEST_TIMEOUT,
    };
    let reason = refused.canonical_reason().unwrap_or_default();
    let mut response = text(refused, &format!("{} {reason}", refused.as_u16()));
    // What is left of the body would be read as the next request.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
