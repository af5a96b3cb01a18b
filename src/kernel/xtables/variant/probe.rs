//! Looking at the host: which programs are there, of which version, and what the tables hold.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    Binaries, Choice, DriverChoice, Evidence, FamilyUnavailable, Reason, Tools, Variant, VariantError, Version, choose,
    choose::Found, parse_version,
};
use crate::kernel::xtables::driver::{Driver, NetlinkDriver};
use crate::kernel::xtables::nft;
use crate::kernel::xtables::process::{Input, run};
use crate::kernel::xtables::restore::RestoreDriver;
use crate::net::{Family, PerFamily};

/// Looked into after `PATH`: services often start with a short one.
const EXTRA_FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Chains that the kubelet leaves in `mangle`.
const KUBELET_CHAINS: [&str; 2] = [":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY "];

/// How long a look at the tables may take. Saving 320,000 rules takes iptables-nft 1.8.7 more than three minutes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Finds the tools of this host: of the variant that is asked for, or else of the one that the host uses.
///
/// # Errors
/// See [`VariantError`]. A family that cannot be served is not an error but stands in [`Tools::binaries`].
pub fn detect(forced: Option<Variant>) -> Result<Tools, VariantError> {
    Host::this().tools(forced, &Without("only the tools are looked for"))
}

/// The tools of a variant, also for a family that cannot be served here: what was written while it could be is still
/// there.
///
/// # Errors
/// The variant is not installed, or too old.
pub fn installed(variant: Variant) -> Result<Tools, VariantError> {
    let host = Host::this();
    let plain = host.plain();
    let Installed { version, binaries } =
        host.installed(variant, plain.as_ref()).ok_or(VariantError::VariantNotInstalled { wanted: variant })?;
    check_version(variant, version)?;
    let named = |family| FamilyUnavailable::NoBinary(format!("{}-{variant}-restore", base_name(family)));
    let binaries = PerFamily::new(|family| binaries.get(family).clone().ok_or_else(|| named(family)));
    Ok(Tools { variant, version, reason: Reason::Forced, binaries })
}

/// Finds the way to this host's rules: the variant that is asked for, or else the one that the host uses; nf_tables by
/// netlink where that works, everything else with the tools.
///
/// Everything is asked of the network namespace of the calling thread.
///
/// # Errors
/// See [`VariantError`]. A family that cannot be served is not an error but stands in [`Driver::unavailable`].
pub fn find(forced: Option<Variant>, choice: DriverChoice) -> Result<Driver, VariantError> {
    Host::this().find(forced, choice, &ThisKernel)
}

/// nf_tables without tools.
pub(super) trait Netlink {
    /// Whether rules of the family can be written.
    fn usable(&self, family: Family) -> Result<(), String>;
    /// What the tables hold.
    fn found(&self) -> Found;
}

/// The kernel under us.
struct ThisKernel;

impl Netlink for ThisKernel {
    fn usable(&self, family: Family) -> Result<(), String> {
        nft::probe::usable(family)
    }

    fn found(&self) -> Found {
        match nft::probe::found() {
            Ok((kubelet, rules)) => Found { installed: true, kubelet, rules },
            Err(error) => {
                tracing::debug!(%error, "cannot look into nf_tables");
                Found { installed: true, ..Found::default() }
            }
        }
    }
}

/// No netlink, and why.
pub(super) struct Without(pub(super) &'static str);

impl Netlink for Without {
    fn usable(&self, _: Family) -> Result<(), String> {
        Err(self.0.to_owned())
    }

    fn found(&self) -> Found {
        Found::default()
    }
}

/// Where a host keeps its programs and its `/proc`.
pub(super) struct Host {
    pub(super) folders: Vec<PathBuf>,
    pub(super) proc: PathBuf,
}

/// What there is to write rules with.
struct Survey {
    /// nf_tables needs no tools; or why it does.
    netlink: Result<(), String>,
    installed: BTreeMap<Variant, Installed>,
    /// The variant of plain `iptables`.
    plain: Option<Variant>,
}

impl Survey {
    fn has(&self, variant: Variant) -> bool {
        self.installed.contains_key(&variant) || (variant == Variant::Nft && self.netlink.is_ok())
    }
}

/// The programs of one variant.
struct Installed {
    version: Version,
    binaries: PerFamily<Option<Binaries>>,
}

impl Host {
    fn this() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(EXTRA_FOLDERS.iter().map(PathBuf::from)).collect();
        Host { folders, proc: PathBuf::from("/proc") }
    }

    /// The way to the rules.
    pub(super) fn find(
        &self,
        forced: Option<Variant>,
        choice: DriverChoice,
        netlink: &dyn Netlink,
    ) -> Result<Driver, VariantError> {
        let usable = match choice {
            DriverChoice::Restore => Err("the tools were asked for".to_owned()),
            DriverChoice::Auto | DriverChoice::Netlink => netlink.usable(Family::V4),
        };
        let forced = match (choice, forced, &usable) {
            (DriverChoice::Netlink, Some(Variant::Legacy), _) => return Err(VariantError::LegacyByNetlink),
            (DriverChoice::Netlink, _, Err(why)) => return Err(VariantError::NetlinkUnusable { why: why.clone() }),
            (DriverChoice::Netlink, _, Ok(())) => Some(Variant::Nft),
            (DriverChoice::Auto | DriverChoice::Restore, forced, _) => forced,
        };
        let survey = self.survey(usable.clone());
        let chosen = self.choose(forced, &survey, netlink)?;
        if chosen.variant == Variant::Nft && usable.is_ok() {
            let families = PerFamily::new(|family| self.served_by(family, netlink));
            return Ok(Driver::Netlink(NetlinkDriver::new(chosen.reason, families)));
        }
        if let (Variant::Nft, Err(why)) = (chosen.variant, &usable) {
            tracing::debug!(%why, "nf_tables is written with the tools");
        }
        Ok(Driver::Restore(RestoreDriver::new(self.with(chosen, survey)?)))
    }

    /// The tools of the chosen variant.
    pub(super) fn tools(&self, forced: Option<Variant>, netlink: &dyn Netlink) -> Result<Tools, VariantError> {
        let survey = self.survey(Err("only the tools are looked for".to_owned()));
        let chosen = self.choose(forced, &survey, netlink)?;
        self.with(chosen, survey)
    }

    fn survey(&self, netlink: Result<(), String>) -> Survey {
        let plain = self.plain();
        let mut installed = BTreeMap::new();
        for variant in Variant::ALL {
            if let Some(found) = self.installed(variant, plain.as_ref()) {
                installed.insert(variant, found);
            }
        }
        Survey { netlink, installed, plain: plain.map(|(_, variant, _)| variant) }
    }

    fn with(&self, choice: Choice, mut survey: Survey) -> Result<Tools, VariantError> {
        let Some(Installed { version, binaries }) = survey.installed.remove(&choice.variant) else {
            return Err(VariantError::VariantNotInstalled { wanted: choice.variant });
        };
        check_version(choice.variant, version)?;
        let binaries = PerFamily::new(|family| self.usable(family, choice.variant, binaries.get(family).clone()));
        Ok(Tools { variant: choice.variant, version, reason: choice.reason, binaries })
    }

    fn choose(&self, forced: Option<Variant>, survey: &Survey, netlink: &dyn Netlink) -> Result<Choice, VariantError> {
        let not_installed = || {
            let searched = std::env::join_paths(&self.folders).unwrap_or_default();
            let netlink = survey.netlink.clone().err().unwrap_or_default();
            VariantError::NotInstalled { searched: searched.to_string_lossy().into_owned(), netlink }
        };
        let there: Vec<Variant> = Variant::ALL.into_iter().filter(|variant| survey.has(*variant)).collect();
        if there.is_empty() {
            return Err(not_installed());
        }
        if let Some(variant) = forced {
            return Ok(Choice { variant, reason: Reason::Forced });
        }
        // With one variant there is nothing to weigh, and looking at the tables is not free.
        let look = there.len() > 1;
        let found = |variant| match survey.installed.get(&variant) {
            _ if !survey.has(variant) => Found::default(),
            _ if !look => Found { installed: true, ..Found::default() },
            _ if variant == Variant::Nft && survey.netlink.is_ok() => netlink.found(),
            Some(programs) => self.found(programs),
            None => Found::default(),
        };
        let evidence = Evidence { nft: found(Variant::Nft), legacy: found(Variant::Legacy), plain: survey.plain };
        choose(&evidence).ok_or_else(not_installed)
    }

    /// Whether netlink serves a family.
    fn served_by(&self, family: Family, netlink: &dyn Netlink) -> Result<(), FamilyUnavailable> {
        self.kernel_has(family)?;
        netlink.usable(family).map_err(FamilyUnavailable::Refused)
    }

    /// Version and variant of plain `iptables-restore`, which is on systems with one variant the only one.
    fn plain(&self) -> Option<(Version, Variant, PathBuf)> {
        let program = self.program("iptables-restore")?;
        let (version, variant) = version_of(&program)?;
        Some((version, variant, program))
    }

    fn installed(&self, variant: Variant, plain: Option<&(Version, Variant, PathBuf)>) -> Option<Installed> {
        let named = PerFamily::new(|family| self.binaries(family, &format!("-{variant}")));
        if let Some(program) = named.v4.as_ref().or(named.v6.as_ref()) {
            let (version, _) = version_of(&program.restore)?;
            return Some(Installed { version, binaries: named });
        }
        let (version, ..) = plain.filter(|(_, plain, _)| *plain == variant)?;
        Some(Installed { version: *version, binaries: PerFamily::new(|family| self.binaries(family, "")) })
    }

    fn binaries(&self, family: Family, infix: &str) -> Option<Binaries> {
        let base = base_name(family);
        Some(Binaries {
            save: self.program(&format!("{base}{infix}-save"))?,
            restore: self.program(&format!("{base}{infix}-restore"))?,
        })
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(name)).find(|path| is_executable(path))
    }

    fn usable(
        &self,
        family: Family,
        variant: Variant,
        binaries: Option<Binaries>,
    ) -> Result<Binaries, FamilyUnavailable> {
        self.kernel_has(family)?;
        binaries.ok_or_else(|| FamilyUnavailable::NoBinary(format!("{}-{variant}-restore", base_name(family))))
    }

    fn kernel_has(&self, family: Family) -> Result<(), FamilyUnavailable> {
        if family == Family::V6 {
            let ipv6 = self.proc.join("sys/net/ipv6");
            if !ipv6.exists() {
                return Err(FamilyUnavailable::NoKernelSupport(family));
            }
            let disabled = std::fs::read_to_string(ipv6.join("conf/all/disable_ipv6"));
            if disabled.is_ok_and(|value| value.trim() == "1") {
                return Err(FamilyUnavailable::Disabled);
            }
        }
        Ok(())
    }

    /// What the tables of a variant hold. A family whose tables cannot be read counts as empty.
    fn found(&self, programs: &Installed) -> Found {
        let mut found = Found { installed: true, ..Found::default() };
        for (_, binaries) in programs.binaries.iter() {
            let Some(binaries) = binaries else { continue };
            let mut in_mangle = false;
            let outcome = run(&binaries.save, &[] as &[&OsStr], Input::None, PATIENCE, |output: &mut dyn BufRead| {
                for line in output.lines() {
                    let line = line?;
                    in_mangle = if line.starts_with('*') { line == "*mangle" } else { in_mangle };
                    found.rules += usize::from(line.starts_with("-A "));
                    found.kubelet |= in_mangle && KUBELET_CHAINS.iter().any(|chain| line.starts_with(chain));
                }
                Ok::<(), std::io::Error>(())
            });
            if let Err(error) = outcome {
                tracing::debug!(program = %binaries.save.display(), %error, "cannot look into these tables");
            }
        }
        found
    }
}

fn check_version(variant: Variant, version: Version) -> Result<(), VariantError> {
    if version < Version::OLDEST {
        return Err(VariantError::TooOld { program: format!("iptables-{variant}"), version });
    }
    Ok(())
}

const fn base_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn version_of(program: &Path) -> Option<(Version, Variant)> {
    let mut text = String::new();
    let read = |output: &mut dyn BufRead| output.read_to_string(&mut text).map(|_| ());
    run(program, &["--version"], Input::None, Duration::from_secs(10), read).ok()?;
    parse_version(&text)
}
