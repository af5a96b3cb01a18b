//! `--version`: three flags in one, as with kube-proxy (contract 1.1).

/// What to do about the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionFlag {
    /// Go on.
    Ignore,
    /// Print it and exit.
    Print,
    /// Print all that is known of this build and exit.
    Raw,
    /// Report this one, which begins with a `v`, and go on.
    Report(String),
}

pub(super) fn parse(text: &str) -> Result<VersionFlag, String> {
    if text == "raw" {
        return Ok(VersionFlag::Raw);
    }
    if text.starts_with('v') {
        return match is_version(text) {
            true => Ok(VersionFlag::Report(text.to_owned())),
            false => Err(format!("could not parse {text:?} as version: expected one such as v1.36.1")),
        };
    }
    match crate::config::switch(text)? {
        true => Ok(VersionFlag::Print),
        false => Ok(VersionFlag::Ignore),
    }
}

/// Three numbers, and whatever follows a dash or a plus.
fn is_version(text: &str) -> bool {
    let core = text.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let are_numbers = numbers.iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    numbers.len() == 3 && are_numbers
}

/// The version of this program, and of the kube-proxy whose flags and configuration it takes.
pub fn line() -> String {
    format!("weir {} (in place of kube-proxy v1.{})", env!("CARGO_PKG_VERSION"), crate::config::KUBE_PROXY_MINOR)
}

/// The same as JSON, and for what this program was built.
pub fn raw() -> String {
    format!(
        "{{\"version\":\"{}\",\"kubeProxy\":\"v1.{}\",\"platform\":\"{}/{}\"}}",
        env!("CARGO_PKG_VERSION"),
        crate::config::KUBE_PROXY_MINOR,
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}
