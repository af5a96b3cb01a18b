//! `/statusz` and `/flagz`: texts for people. Kubernetes promises nothing of their form, and neither is promised here.

use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::Timestamp;

const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
                       guarantees and is for debugging purposes only.";

/// A flag as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    pub name: String,
    pub value: String,
}

/// What `/statusz` tells.
#[derive(Clone, Debug)]
pub struct Statusz {
    /// weir's version.
    pub version: String,
    /// The version of Kubernetes whose kube-proxy this one stands in for.
    pub kubernetes: String,
    pub started: SystemTime,
}

impl Statusz {
    pub(super) fn text(&self) -> String {
        let started =
            Timestamp::try_from(self.started).map(|time| time.strftime("%a %b %e %H:%M:%S UTC %Y").to_string());
        let up = up(self.started.elapsed().unwrap_or_default());
        format!(
            "\nkube-proxy statusz\n{WARNING}\n\nStarted: {}\nUp: {up}\nBinary version: weir {}\nEmulation version: {}\n\
             Paths: /configz /flagz /healthz /metrics /proxyMode\n",
            started.unwrap_or_default(),
            self.version,
            self.kubernetes
        )
    }
}

/// `2 hr 05 min 09 sec`.
fn up(age: Duration) -> String {
    let seconds = age.as_secs();
    format!("{} hr {:02} min {:02} sec", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Flags in the order of their names.
pub(super) fn flagz(flags: &[Flag]) -> String {
    let mut lines: Vec<String> = flags.iter().map(|flag| format!("{}={}\n", flag.name, flag.value)).collect();
    lines.sort();
    format!("\nkube-proxy flagz\n{WARNING}\n{}", lines.concat())
}
