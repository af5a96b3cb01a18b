//! Pages of the metrics server (contract 6.3).
//!
//! | path | page |
//! |---|---|
//! | `/metrics` | [`metrics`](super::metrics) |
//! | `/metrics/slis` | results of the health check below; `DELETE` forgets them |
//! | `/healthz`, `/healthz/ping` | whether this server answers; `?verbose` and `?exclude=` as of all Kubernetes components |
//! | `/proxyMode` | the mode |
//! | `/configz` | the configuration in force |
//! | `/statusz`, `/flagz` | for people; each can be switched off by its gate |
//! | `/debug/flags/v` | with profiling: `PUT` a number to log more or less from then on |
//! | `/debug/memory` | with profiling: what the allocator says of itself |
//!
//! Everything else is 404, `/livez` and `/readyz` among it: health has a server of its own. Methods do not matter where none
//! is named, as in kube-proxy.
//!
//! # Profiling
//!
//! `/debug/pprof/*` is refused with a page that says what to do instead. Its profiles are of the runtime of Go. What Rust has
//! for it samples in a signal handler that walks the stack of whatever it interrupts, which is known to crash programs, and
//! a service proxy is nothing to try that in; `perf` does the same from outside and needs nothing here. Heap profiles need an
//! allocator that was built for them and is slower all the time. What the allocator counts anyway is at `/debug/memory`: it
//! tells memory in use from memory that is only kept, which is the question most of the time.

mod debug;
mod healthz;
mod zpages;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};

use self::healthz::Slis;
use super::http::{Handler, not_found, page};
use super::metrics::{Metrics, negotiate, start_family, start_time, write};
pub use debug::Debugging;
pub use zpages::{Flag, Statusz};

const TEXT: &str = "text/plain; charset=utf-8";

/// A text that is made when somebody asks for it.
pub type Text = Arc<dyn Fn() -> String + Send + Sync>;

/// What the pages show.
pub struct Pages {
    pub metrics: Arc<Metrics>,
    /// `iptables`, `ipvs`.
    pub mode: &'static str,
    /// The configuration in force as a JSON object, `kind` and `apiVersion` in it.
    pub configz: Text,
    /// Gate `ComponentStatusz`.
    pub statusz: Option<Statusz>,
    /// Gate `ComponentFlagz`.
    pub flagz: Option<Vec<Flag>>,
    /// `enableProfiling`.
    pub debugging: Option<Debugging>,
}

/// What answers requests to these pages.
pub fn handler(pages: Pages) -> Handler {
    let slis = Slis::default();
    Handler::new(move |parts, body| pages.answer(&slis, parts, &body))
}

impl Pages {
    fn answer(&self, slis: &Slis, request: &Parts, body: &Bytes) -> Response<Bytes> {
        match request.uri.path() {
            "/metrics" => scrape(request, |format| self.metrics.text(format)),
            "/metrics/slis" if request.method == Method::DELETE => {
                slis.reset();
                plain("metrics reset\n")
            }
            "/metrics/slis" => {
                scrape(request, |format| write(slis.families().into_iter().chain(start_family()).collect(), format))
            }
            "/healthz" => healthz::root(slis, request.uri.query().unwrap_or_default()),
            "/healthz/ping" => plain("ok"),
            "/proxyMode" => page(StatusCode::OK, TEXT, self.mode),
            "/configz" => {
                let configuration = (self.configz)();
                let body = format!("{{\"kubeproxy.config.k8s.io\":{configuration}}}");
                page(StatusCode::OK, "application/json", body)
            }
            "/statusz" => self.statusz.as_ref().map_or_else(not_found, |statusz| plain(statusz.text())),
            "/flagz" => self.flagz.as_ref().map_or_else(not_found, |flags| plain(zpages::flagz(flags))),
            path => {
                let debug = self.debugging.as_ref().and_then(|debug| debug.answer(path, &request.method, body));
                debug.unwrap_or_else(not_found)
            }
        }
    }
}

/// A page that browsers may guess the type of, as kube-proxy has it where it does not forbid it.
fn plain(body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = page(StatusCode::OK, TEXT, body);
    response.headers_mut().remove(header::X_CONTENT_TYPE_OPTIONS);
    response
}

/// A scrape in the format that is liked most.
fn scrape(request: &Parts, text: impl FnOnce(super::metrics::Format) -> String) -> Response<Bytes> {
    let accept: Vec<&str> =
        request.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let negotiated = negotiate(&accept.join(","));
    let mut response = plain(text(negotiated.format));
    let headers = response.headers_mut();
    if let Ok(content_type) = HeaderValue::try_from(negotiated.content_type()) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    // A Go client library's hint for whoever wants to know of restarts without reading the body.
    if let Some(start) = start_time() {
        headers.insert("process-start-time-unix", HeaderValue::from(start as u64));
    }
    response
}

#[cfg(test)]
mod tests;
