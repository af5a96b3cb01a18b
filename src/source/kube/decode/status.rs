//! What the API server says when something is wrong: its `Status` objects, in answers and in watches.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::source::kube::protobuf;
use crate::source::kube::step::Failure;

/// The API's `Status` object.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::source::kube) struct StatusObject {
    pub code: u16,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub details: Option<StatusDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::source::kube) struct StatusDetails {
    pub retry_after_seconds: Option<u64>,
}

impl StatusObject {
    /// The failure that an `ERROR` event tells.
    pub fn failure(&self) -> Failure {
        let message = excerpt(self.message.as_deref().unwrap_or_default().as_bytes());
        let expired = matches!(self.reason.as_deref(), Some("Expired" | "Gone"));
        classify(if expired { 410 } else { self.code }, message, self.retry_after())
    }

    fn retry_after(&self) -> Option<Duration> {
        self.details.as_ref()?.retry_after_seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }
}

/// What a response with an error status means. The body is a `Status` in either encoding, or plain text from something
/// in between.
pub(in crate::source::kube) fn error_response(code: u16, body: &[u8], retry_after: Option<Duration>) -> Failure {
    let status = match protobuf::is_protobuf(body) {
        true => protobuf::status(body).unwrap_or_default(),
        false => serde_json::from_slice(body).unwrap_or_default(),
    };
    let plain = || excerpt(body);
    let message = status.message.as_deref().map_or_else(plain, |message| excerpt(message.as_bytes()));
    let retry_after = retry_after.or_else(|| status.retry_after());
    classify(code, message, retry_after)
}

fn classify(code: u16, message: String, retry_after: Option<Duration>) -> Failure {
    match code {
        410 => Failure::Gone(message),
        404 => Failure::Missing(message),
        401 | 403 => Failure::Denied { code, message },
        // 502 and 504 come from a load balancer whose API server is away.
        429 | 502 | 503 | 504 => Failure::Busy { code, message, retry_after },
        400..=499 => Failure::Refused { code, message },
        _ => Failure::Server { code, message },
    }
}

/// An answer, or a part of one, that cannot be read.
pub(in crate::source::kube) fn malformed(what: &str, reason: &impl fmt::Display, text: &[u8]) -> Failure {
    Failure::Malformed(format!("{what}: {reason}: {}", excerpt(text)))
}

/// The start of a text from the network, safe for one line of a log.
fn excerpt(text: &[u8]) -> String {
    /// Bytes that are kept.
    const KEPT: usize = 200;
    let text = text.trim_ascii();
    let start = String::from_utf8_lossy(text.get(..KEPT).unwrap_or(text));
    start.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
