//! Looking at the host: which programs are there, of which version, and what the tables hold.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    Binaries, Choice, Evidence, FamilyUnavailable, Reason, Tools, Variant, VariantError, Version, choose,
    choose::Found, parse_version,
};
use crate::kernel::xtables::process::{Input, run};
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
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(EXTRA_FOLDERS.iter().map(PathBuf::from)).collect();
    Host { folders, proc: PathBuf::from("/proc") }.detect(forced)
}

/// Where a host keeps its programs and its `/proc`.
pub(super) struct Host {
    pub(super) folders: Vec<PathBuf>,
    pub(super) proc: PathBuf,
}

/// The programs of one variant.
struct Installed {
    version: Version,
    binaries: PerFamily<Option<Binaries>>,
}

impl Host {
    pub(super) fn detect(&self, forced: Option<Variant>) -> Result<Tools, VariantError> {
        let plain = self.plain();
        let mut installed = BTreeMap::new();
        for variant in Variant::ALL {
            if let Some(found) = self.installed(variant, plain.as_ref()) {
                installed.insert(variant, found);
            }
        }
        if installed.is_empty() {
            let searched = std::env::join_paths(&self.folders).unwrap_or_default();
            return Err(VariantError::NotInstalled { searched: searched.to_string_lossy().into_owned() });
        }
        let choice = match forced {
            Some(variant) => Choice { variant, reason: Reason::Forced },
            None => self.choose(&installed, plain.map(|(_, variant, _)| variant))?,
        };
        let Some(Installed { version, binaries }) = installed.remove(&choice.variant) else {
            return Err(VariantError::VariantNotInstalled { wanted: choice.variant });
        };
        if version < Version::OLDEST {
            return Err(VariantError::TooOld { program: format!("iptables-{}", choice.variant), version });
        }
        let binaries = PerFamily::new(|family| self.usable(family, choice.variant, binaries.get(family).clone()));
        Ok(Tools { variant: choice.variant, version, reason: choice.reason, binaries })
    }

    fn choose(&self, installed: &BTreeMap<Variant, Installed>, plain: Option<Variant>) -> Result<Choice, VariantError> {
        // With one variant there is nothing to weigh, and looking at the tables is not free.
        let look = installed.len() > 1;
        let found = |variant| match installed.get(&variant) {
            Some(programs) if look => self.found(programs),
            Some(_) => Found { installed: true, ..Found::default() },
            None => Found::default(),
        };
        let evidence = Evidence { nft: found(Variant::Nft), legacy: found(Variant::Legacy), plain };
        choose(&evidence).ok_or(VariantError::NotInstalled { searched: String::new() })
    }

    /// Version and variant of plain `iptables-restore`, which is on systems with one variant the only one.
    fn plain(&self) -> Option<(Version, Variant, PathBuf)> {
        let program = self.find("iptables-restore")?;
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
            save: self.find(&format!("{base}{infix}-save"))?,
            restore: self.find(&format!("{base}{infix}-restore"))?,
        })
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(name)).find(|path| is_executable(path))
    }

    fn usable(
        &self,
        family: Family,
        variant: Variant,
        binaries: Option<Binaries>,
    ) -> Result<Binaries, FamilyUnavailable> {
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
        binaries.ok_or_else(|| FamilyUnavailable::NoBinary(format!("{}-{variant}-restore", base_name(family))))
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
