//! The kernel of this host: which iptables, and whether we may.

use super::Failure;
use super::options::{IptablesDriver, RuleOptions, VariantChoice};
use crate::kernel::xtables::restore::RestoreDriver;
use crate::kernel::xtables::variant::{DriverChoice, FamilyUnavailable, Variant, find};
use crate::kernel::xtables::{ApplyError, ApplyErrorKind, Driver};

/// `CAP_NET_ADMIN` of uapi `linux/capability.h`.
const CAP_NET_ADMIN: u32 = 12;

/// Finds the way to the rules, as typed.
///
/// # Errors
/// Those of [`open`].
pub fn open_as(rules: &RuleOptions) -> Result<Driver, Failure> {
    open(rules.iptables_variant, rules.iptables_driver)
}

/// Finds the way to the rules and checks that this process may go it. Changes nothing.
///
/// # Errors
/// One line: no permission, no iptables, no family that works.
pub fn open(variant: VariantChoice, driver: IptablesDriver) -> Result<Driver, Failure> {
    check_permission()?;
    let forced = match variant {
        VariantChoice::Auto => None,
        VariantChoice::Legacy => Some(Variant::Legacy),
        VariantChoice::Nft => Some(Variant::Nft),
    };
    let choice = match driver {
        IptablesDriver::Auto => DriverChoice::Auto,
        IptablesDriver::Netlink => DriverChoice::Netlink,
        IptablesDriver::Restore => DriverChoice::Restore,
    };
    let driver = find(forced, choice).map_err(|error| Failure::new(error.to_string()))?;
    tracing::debug!(%driver, reason = %driver.reason(), "rules");
    usable(driver)
}

/// Like [`open_as`], and checks that the kernel lets rules be written. Writes none, but a legacy kernel makes its tables.
///
/// # Errors
/// Those of [`open`], and a kernel that lacks something.
pub fn open_for_writing(rules: &RuleOptions) -> Result<Driver, Failure> {
    let driver = match open_as(rules)? {
        // It was found usable by asking the kernel for all that rules need.
        driver @ Driver::Netlink(_) => driver,
        Driver::Restore(driver) => usable(tried(&driver).into())?,
    };
    for (family, why) in driver.unavailable() {
        tracing::warn!(%family, reason = %why, "this family is not served");
    }
    Ok(driver)
}

/// The driver without the families that the tools refuse to write.
fn tried(driver: &RestoreDriver) -> RestoreDriver {
    let mut tools = driver.tools().clone();
    for family in tools.families() {
        match driver.probe(family) {
            // Somebody holds the lock: the tables are there.
            Ok(()) | Err(ApplyError { kind: ApplyErrorKind::Busy, .. }) => {}
            Err(error) => *tools.binaries.get_mut(family) = Err(FamilyUnavailable::Refused(error.message)),
        }
    }
    RestoreDriver::new(tools)
}

/// A driver that serves a family at least.
fn usable(driver: Driver) -> Result<Driver, Failure> {
    if !driver.families().is_empty() {
        return Ok(driver);
    }
    let why: Vec<String> = driver.unavailable().into_iter().map(|(family, why)| format!("{family}: {why}")).collect();
    Err(Failure::new(format!("iptables is not available on this host: {}", why.join("; "))))
}

/// Whether this process may read and write rules.
///
/// # Errors
/// One line that says what it lacks.
pub fn check_permission() -> Result<(), Failure> {
    if may_administer() {
        return Ok(());
    }
    Err(Failure::new(
        "no permission to read or write rules: CAP_NET_ADMIN is missing; run as root, or give the capability \
         (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW; Kubernetes: securityContext.privileged)",
    ))
}

/// Whether the effective capabilities include `CAP_NET_ADMIN`. Where that cannot be told, trying will tell.
fn may_administer() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    bits.is_none_or(|bits| bits >> CAP_NET_ADMIN & 1 == 1)
}

/// Lets node ports answer on 127.0.0.1: `net.ipv4.conf.all.route_localnet` is raised if it is 0, and never lowered
/// (contract 3.11).
///
/// # Errors
/// The sysctl cannot be written.
pub fn enable_route_localnet() -> Result<(), Failure> {
    const PATH: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";
    let old = std::fs::read_to_string(PATH).unwrap_or_default();
    if old.trim() == "1" {
        return Ok(());
    }
    std::fs::write(PATH, "1").map_err(|error| {
        Failure::new(format!(
            "cannot set net.ipv4.conf.all.route_localnet=1, which node ports on 127.0.0.1 need: {error}; set it \
             before, or use --iptables-localhost-nodeports=false"
        ))
    })?;
    tracing::info!(
        sysctl = "net.ipv4.conf.all.route_localnet",
        old = old.trim(),
        new = "1",
        "changed, for node ports on 127.0.0.1"
    );
    Ok(())
}
