//! The kernel's objects beside rules, opened for reading. Nothing is written, nor left behind.

use crate::cmd::Failure;
use crate::cmd::options::{ProxyMode, RuleOptions};
use crate::engine::{has_leftovers, observe_servers, observe_sets_and_device};
use crate::kernel::ObserveError;
use crate::kernel::ipset::IpsetDriver;
use crate::kernel::ipvs::IpvsDriver;
use crate::kernel::link::{Device, LinkDriver};
use crate::net::Family;
use crate::plan::egress;
use crate::plan::ipvs::Observed;

/// Sets, the service device, virtual servers.
pub struct LiveObjects {
    sets: IpsetDriver,
    links: LinkDriver,
    /// `None`: another mode, which has none of its own. To ask for them would load IPVS.
    servers: Option<IpvsDriver>,
}

impl LiveObjects {
    /// Opens what the mode needs. In IPVS mode the kernel loads its module if it can. `None`: the kernel has no sets, and
    /// the mode needs none.
    ///
    /// # Errors
    /// One line: no IPVS, no permission, ipset too old.
    pub fn open(rules: &RuleOptions) -> Result<Option<Self>, Failure> {
        if rules.proxy_mode == ProxyMode::Ipvs {
            let servers = open_servers().map_err(|error| cannot_serve(&error))?;
            let (sets, links) = open_others().map_err(|error| cannot_serve(&error))?;
            return Ok(Some(LiveObjects { sets, links, servers: Some(servers) }));
        }
        match open_others() {
            Ok((sets, links)) => Ok(Some(LiveObjects { sets, links, servers: None })),
            Err(error) if rules.egress.masquerade => {
                Err(Failure::new(format!("cannot use --masquerade-egress: {error}")))
            }
            Err(error) => {
                tracing::debug!(%error, "no ipset: nothing of IPVS mode can be left on this node");
                Ok(None)
            }
        }
    }

    /// Looks at all of it.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn observe(&mut self, families: &[Family]) -> Result<Observed, Failure> {
        let failed = |error: ObserveError| Failure::new(error.to_string());
        let mut observed = observe_sets_and_device(&mut self.sets, &mut self.links).map_err(failed)?;
        if let Some(servers) = &mut self.servers {
            observed.servers = observe_servers(servers, families).map_err(failed)?;
        } else if has_leftovers(&observed) {
            match open_servers().and_then(|mut servers| observe_servers(&mut servers, families)) {
                Ok(servers) => observed.servers = servers,
                // weir proxy removes none of it as long as it cannot tell either.
                Err(error) => {
                    tracing::warn!(%error, "IPVS mode was here: what it left cannot be told");
                    observed = only_egress(observed);
                }
            }
        }
        Ok(observed)
    }
}

/// Why IPVS mode cannot be.
pub fn cannot_serve(why: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("cannot use --proxy-mode ipvs: {why}"))
}

/// The seed decides about the order of what is written, which is nothing here.
fn open_servers() -> Result<IpvsDriver, ObserveError> {
    Ok(IpvsDriver::open(0)?)
}

fn open_others() -> Result<(IpsetDriver, LinkDriver), ObserveError> {
    Ok((IpsetDriver::open()?, LinkDriver::open()?))
}

/// What every mode has.
fn only_egress(mut observed: Observed) -> Observed {
    let names = Family::ALL.map(egress::set_name);
    observed.sets.retain(|set| names.contains(&set.name));
    Observed { device: Device::Absent, servers: Vec::new(), ..observed }
}
