//! Which schedulers the kernel has. Each is asked for once, when a service first wants it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::kernel::ObserveError;
use crate::kernel::ipvs::{Ipvs, Scheduler};
use crate::model::{ServicePort, Settings};

/// What was found out.
#[derive(Debug, Default)]
pub(super) struct Schedulers {
    known: BTreeSet<Arc<str>>,
    missing: BTreeSet<Arc<str>>,
}

impl Schedulers {
    /// Finds out about those that these service ports ask for.
    pub(super) fn learn<'a>(
        &mut self,
        servers: &mut impl Ipvs,
        ports: impl Iterator<Item = &'a Arc<ServicePort>>,
        default: &str,
    ) -> Result<(), ObserveError> {
        for port in ports {
            let Some(name) = port.tuning.as_ref().and_then(|tuning| tuning.scheduler.as_ref()) else { continue };
            if self.known.contains(name) || self.missing.contains(name) {
                continue;
            }
            let is_there = match Scheduler::new(name) {
                Some(scheduler) => servers.has_scheduler(&scheduler)?,
                None => false,
            };
            if is_there {
                self.known.insert(name.clone());
                continue;
            }
            tracing::warn!(
                service_port = %port.key.name,
                scheduler = %name,
                "the kernel has no such scheduler (module ip_vs_{name}): services that ask for it are spread by {default}"
            );
            self.missing.insert(name.clone());
        }
        Ok(())
    }

    /// The settings with what is missing.
    pub(super) fn apply_to(&self, settings: Arc<Settings>) -> Arc<Settings> {
        if self.missing.is_subset(&settings.ipvs.missing_schedulers) {
            return settings;
        }
        let mut settings = Arc::unwrap_or_clone(settings);
        settings.ipvs.missing_schedulers.extend(self.missing.iter().cloned());
        Arc::new(settings)
    }
}
