//! What is compared with: the kernel, nothing, or saved rules.

use std::path::{Path, PathBuf};

use crate::cmd::Failure;
use crate::cmd::accounting::Accounting;
use crate::cmd::options::VariantChoice;
use crate::kernel::xtables::decode::read_scattered;
use crate::kernel::xtables::variant::Variant;
use crate::kernel::xtables::{Driver, Table, Xtables};
use crate::net::Family;
use crate::plan::iptables::Comparison;

/// What is compared with.
pub enum Against {
    Live(Driver),
    Empty,
    /// Output of `iptables-save` and `ip6tables-save`.
    Files(Vec<SavedRules>),
}

/// A file, read: what it comes from may be a pipe, which is there once.
pub struct SavedRules {
    family: Family,
    path: PathBuf,
    text: String,
}

impl SavedRules {
    fn open(family: Family, path: &Path, flag: &str) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            Failure::new(format!("{flag} {path}: cannot be read: {error}; give `live`, `empty` or saved rules"))
        })?;
        Ok(SavedRules { family, path: path.to_owned(), text })
    }
}

impl Against {
    /// `live` and `empty` are words; everything else is a file. One file says nothing about IPv6, so only IPv4 is
    /// compared then.
    ///
    /// # Errors
    /// A file that cannot be opened; what `live` says.
    pub fn open(
        what: &str,
        ipv6: Option<&Path>,
        live: impl FnOnce() -> Result<Driver, Failure>,
    ) -> Result<Self, Failure> {
        match (what, ipv6) {
            ("live" | "empty", Some(file)) => Err(Failure::new(format!(
                "--against-ipv6 {}: goes with --against FILE, the rules of IPv4",
                file.display()
            ))),
            ("live", None) => live().map(Against::Live).map_err(|failure| {
                Failure::new(format!("{failure}; or compare without the kernel: --against empty, --against FILE"))
            }),
            ("empty", None) => Ok(Against::Empty),
            (file, ipv6) => {
                let mut files = vec![SavedRules::open(Family::V4, Path::new(file), "--against")?];
                if let Some(file) = ipv6 {
                    files.push(SavedRules::open(Family::V6, file, "--against-ipv6")?);
                }
                Ok(Against::Files(files))
            }
        }
    }

    pub fn families(&self) -> Vec<Family> {
        match self {
            Against::Live(driver) => driver.families(),
            Against::Empty => Family::ALL.to_vec(),
            Against::Files(files) => files.iter().map(|saved| saved.family).collect(),
        }
    }

    /// The accounting objects that rules would name.
    pub fn accounting(&self) -> Accounting {
        match self {
            Against::Live(driver) => Accounting::foretell(&driver.families()),
            Against::Empty => Accounting::default(),
            Against::Files(files) => Accounting::named_in(files.iter().map(|saved| saved.text.as_str())),
        }
    }

    /// For the form of restore input: that of the tools at hand, or the one that was asked for.
    pub fn variant(&self, choice: VariantChoice) -> Variant {
        match (self, choice) {
            (Against::Live(driver), _) => driver.variant(),
            (_, VariantChoice::Nft) => Variant::Nft,
            (_, VariantChoice::Legacy | VariantChoice::Auto) => Variant::Legacy,
        }
    }

    /// Shows every chain to the comparison.
    pub fn show(&mut self, comparison: &mut Comparison) -> Result<(), Failure> {
        match self {
            Against::Empty => Ok(()),
            Against::Live(driver) => show_live(driver, comparison),
            Against::Files(files) => files.iter().try_for_each(|saved| show_file(saved, comparison)),
        }
    }
}

fn show_live(driver: &mut Driver, comparison: &mut Comparison) -> Result<(), Failure> {
    for family in driver.families() {
        for table in Table::ALL {
            driver
                .observe(family, table, &mut |chain| comparison.observed(family, table, chain))
                .map_err(|error| Failure::new(error.to_string()))?;
        }
    }
    Ok(())
}

fn show_file(saved: &SavedRules, comparison: &mut Comparison) -> Result<(), Failure> {
    let SavedRules { family, path, text } = saved;
    read_scattered(*family, &mut text.as_bytes(), &mut |table, chain| {
        comparison.observed(*family, table, chain);
    })
    .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}
