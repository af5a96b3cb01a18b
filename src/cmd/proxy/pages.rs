//! What the metrics server shows of a configuration.

use std::sync::Arc;

use crate::cmd::{logging, settle::Settled};
use crate::config::{FeatureGates, KUBE_PROXY_MINOR};
use crate::serve::http::Handler;
use crate::serve::metrics::{Feature, Metrics, started};
use crate::serve::pages::{self, Debugging, Flag, Pages, Statusz};

/// All pages.
pub fn handler(settled: &Settled, metrics: &Arc<Metrics>) -> Handler {
    let configz = settled.config.to_json();
    let is_on = |gate| settled.gates.is_enabled(gate);
    let flags =
        || settled.flag_values.iter().map(|(name, value)| Flag { name: (*name).to_owned(), value: value.clone() });
    pages::handler(Pages {
        metrics: metrics.clone(),
        mode: settled.rules.proxy_mode.as_str(),
        configz: Arc::new(move || configz.clone()),
        statusz: is_on("ComponentStatusz").then(|| Statusz {
            version: version(settled),
            kubernetes: format!("1.{KUBE_PROXY_MINOR}"),
            started: started(),
        }),
        flagz: is_on("ComponentFlagz").then(|| flags().collect()),
        debugging: settled.endpoints.profiling.then(|| Debugging {
            set_verbosity: Arc::new(logging::set_verbosity),
            memory: Arc::new(super::memory::text),
        }),
    })
}

/// The gates as metrics tell of them.
pub fn features(settled: &Settled) -> Vec<Feature> {
    let feature = |gate: &crate::config::Gate| Feature {
        name: gate.name.to_owned(),
        stage: gate.stage.as_str(),
        enabled: settled.gates.is_enabled(gate.name),
    };
    FeatureGates::known().iter().map(feature).collect()
}

/// weir's version, or what `--version` says instead.
pub fn version(settled: &Settled) -> String {
    settled.version.clone().unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned())
}
