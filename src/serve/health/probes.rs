//! How often somebody asked, by what was answered.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

/// Answers of one page by status code. They only grow.
#[derive(Debug, Default)]
pub struct Codes {
    ok: AtomicU64,
    unavailable: AtomicU64,
}

/// Answers since the start: kube-proxy's `proxy_healthz_total` and `proxy_livez_total` (contract 6.4).
#[derive(Debug, Default)]
pub struct Probes {
    pub healthz: Codes,
    pub livez: Codes,
}

impl Codes {
    /// Each code that was answered at least once, as the metrics' label has it, with how often.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [("200", &self.ok), ("503", &self.unavailable)]
            .map(|(code, count)| (code, count.load(Ordering::Relaxed)))
            .into_iter()
            .filter(|(_, count)| *count > 0)
    }

    pub(super) fn count(&self, code: StatusCode) {
        let counter = if code == StatusCode::OK { &self.ok } else { &self.unavailable };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
