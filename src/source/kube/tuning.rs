//! Every duration and bound of the source in one place, so that tests can shorten them.

use std::time::Duration;

/// Durations and bounds. The default is for production.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Objects in one page of a list.
    pub page: u32,
    /// First wait after a failure; it doubles with each further one.
    pub backoff_min: Duration,
    /// Longest wait after a failure, before jitter of up to half of it either way.
    pub backoff_max: Duration,
    /// The wait starts over after a response that lasted this long.
    pub backoff_reset: Duration,
    /// Longest `Retry-After` that is honoured.
    pub retry_after_max: Duration,
    /// How often an API that the server does not have is asked for again.
    pub absent_api: Duration,
    /// Longest wait for the head of a response, or for the next bytes of a list.
    pub response: Duration,
    /// Longest wait for the bookmark that ends the initial events of a streaming list.
    pub initial_events: Duration,
    /// How long the server is asked to keep a watch, in whole seconds. Below the 300 s at which load balancers cut.
    pub watch: Duration,
    /// Up to this much is added to `watch` at random, so that watches of many nodes do not end together.
    pub watch_jitter: Duration,
    /// A watch that the server has not ended this long after its time is abandoned.
    pub watch_grace: Duration,
    /// A watch that delivers nothing for this long, not even a bookmark (about one a minute), is opened anew.
    pub idle: Duration,
    /// A watch that ends this soon without an event counts as a failure.
    pub short_watch: Duration,
    /// A watch must last this long before an outage is declared over.
    pub steady: Duration,
    /// Longest watch event in bytes. An object in etcd has at most 1.5 MiB.
    pub line_max: usize,
    /// Longest page of a list in bytes; a longer one is asked for again with fewer objects.
    pub page_max: usize,
    /// Most updates in one batch of watch events.
    pub batch: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            page: 500,
            backoff_min: Duration::from_millis(800),
            backoff_max: Duration::from_secs(30),
            backoff_reset: Duration::from_secs(120),
            retry_after_max: Duration::from_secs(120),
            absent_api: Duration::from_secs(600),
            response: Duration::from_secs(30),
            initial_events: Duration::from_secs(60),
            watch: Duration::from_secs(270),
            watch_jitter: Duration::from_secs(25),
            watch_grace: Duration::from_secs(10),
            idle: Duration::from_secs(180),
            short_watch: Duration::from_secs(1),
            steady: Duration::from_secs(5),
            line_max: 16 << 20,
            page_max: 128 << 20,
            batch: 1000,
        }
    }
}
