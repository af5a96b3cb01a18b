//! What others change, brought to whom it concerns: rules to the engine, addresses to the settings.

use std::sync::Arc;

use super::facts::SettingsKeeper;
use crate::engine::Handle;
use crate::kernel::watch::{OwnWrites, Watch, WatchConfig};
use crate::kernel::xtables::Suspicion;
use crate::kernel::xtables::variant::Variant;
use crate::net::Family;

/// Watches the network namespace of the calling thread while the result lives. `own` is what the driver tells of its
/// writes.
///
/// Without it a node works as well, and later: everything is compared and read periodically.
pub fn start(
    variant: Variant,
    families: Vec<Family>,
    own: OwnWrites,
    engine: Handle,
    settings: Arc<SettingsKeeper>,
) -> Option<Watch> {
    let on_drift = Box::new(move |suspicion: Suspicion| {
        tracing::debug!(?suspicion, "somebody else wrote rules");
        engine.drift_seen(suspicion);
    });
    let on_addresses = Box::new(move || settings.look_at_host());
    Watch::spawn(WatchConfig { variant, families, own, on_drift, on_addresses })
        .inspect_err(|error| tracing::warn!(%error, "changes by others are found by the periodic compare only"))
        .ok()
}
