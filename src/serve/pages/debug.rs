//! `/debug`: served only where profiling is switched on.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode};

use super::super::http::{page, text};
use super::{Text, plain};

/// Called with a verbosity from 0 upwards. An error is one line.
pub type SetVerbosity = Arc<dyn Fn(u32) -> Result<(), String> + Send + Sync>;

/// What the pages do.
pub struct Debugging {
    /// Logs by this verbosity from now on.
    pub set_verbosity: SetVerbosity,
    /// What the allocator says of itself.
    pub memory: Text,
}

const FLAGS: &str = "<html>\n<head>\n<title>/debug/flags/</title>\n</head>\n<body>\n/debug/flags/<br>\n<br>\nflags:<br>\n\
                     <table>\n<tr>v<br>\n</table>\n<br>\nfull flags configurable<br>\n</body>\n</html>\n";

const NO_PPROF: &str = "no such profile: these are of the runtime of Go, which is not here; from the node, \
                        `perf record -g -p PID` makes a profile of this process; /debug/memory tells of its memory";

impl Debugging {
    /// The page of a path; `None`: there is no such page.
    pub(super) fn answer(&self, path: &str, method: &Method, body: &Bytes) -> Option<Response<Bytes>> {
        match path {
            "/debug/flags" | "/debug/flags/" => Some(page(StatusCode::OK, "text/html; charset=utf-8", FLAGS)),
            "/debug/flags/v" => Some(self.verbosity(method, body)),
            "/debug/memory" => Some(plain((self.memory)())),
            "/debug/pprof" => Some(text(StatusCode::NOT_FOUND, NO_PPROF)),
            path => path.starts_with("/debug/pprof/").then(|| text(StatusCode::NOT_FOUND, NO_PPROF)),
        }
    }

    fn verbosity(&self, method: &Method, body: &Bytes) -> Response<Bytes> {
        let answer = |status, line: String| page(status, "text/plain", line + "\n");
        if method != Method::PUT {
            return answer(StatusCode::NOT_ACCEPTABLE, "unsupported http method".to_owned());
        }
        let written = String::from_utf8_lossy(body);
        let digits = !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit());
        let Some(verbosity) = written.parse().ok().filter(|_| digits) else {
            let line = format!("verbosity {written:?}: must be a whole number, such as 4");
            return answer(StatusCode::BAD_REQUEST, line);
        };
        match (self.set_verbosity)(verbosity) {
            Ok(()) => answer(StatusCode::OK, format!("successfully set klog.logging.verbosity to {verbosity}")),
            Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, error),
        }
    }
}
