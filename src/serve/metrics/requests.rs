//! Requests to the API server. Somebody may send some before there are metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::family::{Family, Labels, Value};
use super::instruments::{Histogram, REQUESTS};
use super::kube;

/// Codes of answers, methods and hosts are few; beyond this nobody would look at them.
const MOST: usize = 1_000;

/// The request of a client that is over.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    pub host: &'a str,
    /// `None`: no answer came.
    pub code: Option<u16>,
    /// A watch is counted, but not timed.
    pub is_watch: bool,
    pub took: Duration,
}

/// Requests by what became of them. Clones count together.
#[derive(Clone, Default)]
pub struct Requests(Arc<Mutex<Figures>>);

#[derive(Default)]
struct Figures {
    /// By code, host and method.
    counts: BTreeMap<(String, String, String), u64>,
    /// By host and verb.
    durations: BTreeMap<(String, String), Histogram>,
}

impl Requests {
    /// A request is over.
    pub fn finished(&self, request: &Request<'_>) {
        let code = request.code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        let (host, method) = (request.host.to_owned(), request.method.to_owned());
        let mut figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let what = (code, host.clone(), method.clone());
        if figures.counts.len() >= MOST && !figures.counts.contains_key(&what) {
            return;
        }
        *figures.counts.entry(what).or_default() += 1;
        if !request.is_watch {
            let durations = figures.durations.entry((host, method)).or_insert_with(|| Histogram::new(&REQUESTS));
            durations.observe(request.took);
        }
    }

    pub(super) fn families(&self) -> [Family; 2] {
        let figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = figures.counts.iter().map(|((code, host, method), count)| {
            let labels: Labels =
                vec![("code", code.clone().into()), ("host", host.clone().into()), ("method", method.clone().into())];
            (labels, Value::from(*count))
        });
        let durations = figures.durations.iter().map(|((host, verb), histogram)| {
            (vec![("host", host.clone().into()), ("verb", verb.clone().into())], histogram.read())
        });
        [kube::REQUESTS.with(counts), kube::REQUEST_DURATION.with(durations)]
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Requests")
    }
}
