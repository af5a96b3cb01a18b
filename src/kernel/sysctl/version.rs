//! The version of the running kernel.

use std::fmt;

/// Major and minor number: what the rules for kernel parameters depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    pub major: u32,
    pub minor: u32,
}

impl KernelVersion {
    pub const fn new(major: u32, minor: u32) -> Self {
        KernelVersion { major, minor }
    }

    /// Reads a release as `uname -r` prints it: `6.1.0-56-cloud-amd64`. `None` if it does not begin with two numbers.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
        Some(KernelVersion { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_as_distributions_write_them() {
        for (release, major, minor) in [
            ("6.1.0-56-cloud-amd64\n", 6, 1),
            ("5.15.167.4-microsoft-standard-WSL2", 5, 15),
            ("4.18.0-553.el8_10.x86_64", 4, 18),
            ("6.12-rc1", 6, 12),
            ("10.0+", 10, 0),
        ] {
            assert_eq!(KernelVersion::parse(release), Some(KernelVersion::new(major, minor)), "{release}");
        }
        for wrong in ["", "6", "linux-6.1", "6.x", "99999999999.1"] {
            assert_eq!(KernelVersion::parse(wrong), None, "{wrong}");
        }
        assert!(KernelVersion::new(4, 19) < KernelVersion::new(5, 9));
        assert!(KernelVersion::new(5, 10) > KernelVersion::new(5, 9), "numbers, not text");
    }
}
