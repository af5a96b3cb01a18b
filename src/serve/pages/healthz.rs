//! `/healthz` of the metrics server: whether it answers. Whether the proxy is healthy is the health server's to say.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::super::http::page;
use super::super::metrics::{Counter, Description, Family, Kind, Stability, Value};
use super::TEXT;

/// The only check there is.
const CHECK: &str = "ping";

const HEALTHCHECK: Description = Description::new(
    "kubernetes_healthcheck",
    Kind::Gauge,
    Stability::Stable,
    "This metric records the result of a single healthcheck.",
);
const HEALTHCHECKS: Description = Description::new(
    "kubernetes_healthchecks_total",
    Kind::Counter,
    Stability::Stable,
    "This metric records the results of all healthcheck.",
);

/// How often the check was made. It cannot fail: whoever cannot be asked gives no answer.
#[derive(Debug, Default)]
pub(super) struct Slis {
    successes: Counter,
}

impl Slis {
    pub(super) fn reset(&self) {
        self.successes.reset();
    }

    /// Nothing, as long as nobody asked.
    pub(super) fn families(&self) -> Vec<Family> {
        let successes = self.successes.get();
        if successes == 0 {
            return Vec::new();
        }
        let labels = vec![("name", CHECK.into()), ("type", "healthz".into())];
        let mut counted = labels.clone();
        counted.push(("status", "success".into()));
        vec![HEALTHCHECK.with([(labels, Value::from(1u64))]), HEALTHCHECKS.with([(counted, Value::from(successes))])]
    }
}

/// Makes the check, unless it is excluded.
pub(super) fn root(slis: &Slis, query: &str) -> Response<Bytes> {
    let parameters: Vec<(String, String)> = query.split('&').filter(|part| !part.is_empty()).map(read).collect();
    let mut excluded: BTreeSet<&str> =
        parameters.iter().filter(|(name, _)| name == "exclude").map(|(_, value)| value.as_str()).collect();
    let is_excluded = excluded.remove(CHECK);
    if !is_excluded {
        slis.successes.inc();
    }
    if !parameters.iter().any(|(name, _)| name == "verbose") {
        return page(StatusCode::OK, TEXT, "ok");
    }
    let verdict = if is_excluded { "excluded: ok" } else { "ok" };
    let mut out = format!("[+]{CHECK} {verdict}\n");
    if !excluded.is_empty() {
        let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(",");
        out.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
    }
    out.push_str("healthz check passed\n");
    page(StatusCode::OK, TEXT, out)
}

/// A parameter of a query.
fn read(part: &str) -> (String, String) {
    let (name, value) = part.split_once('=').unwrap_or((part, ""));
    (decode(name), decode(value))
}

/// Undoes what URLs do to texts: `+` and `%20`. What is no such thing stays as it is.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = |digit: &u8| char::from(*digit).to_digit(16);
        match (first, after) {
            (b'%', [high, low, after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                let byte = hex(high).unwrap_or_default() * 16 + hex(low).unwrap_or_default();
                out.push(u8::try_from(byte).unwrap_or_default());
                rest = after;
            }
            (b'+', after) => {
                out.push(b' ');
                rest = after;
            }
            (byte, after) => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_urls_do_is_undone() {
        for (text, decoded) in [("a+b", "a b"), ("%41%2b", "A+"), ("%4", "%4"), ("%zz", "%zz"), ("%", "%"), ("", "")] {
            assert_eq!(decode(text), decoded);
        }
    }

    proptest! {
        #[test]
        fn any_query_gets_an_answer(query in "(verbose|exclude|[ -~]{0,9}|=|&|%){0,9}") {
            let slis = Slis::default();
            prop_assert_eq!(root(&slis, &query).status(), StatusCode::OK);
        }
    }
}
