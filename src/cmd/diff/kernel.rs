//! What is compared with: the kernel, nothing, or saved files.

use std::path::{Path, PathBuf};

use clap::Args;

use super::live::LiveObjects;
use super::saved::{SavedFile, SavedObjects, without_deadlines};
use crate::cmd::accounting::Accounting;
use crate::cmd::options::{ProxyMode, RuleOptions, VariantChoice};
use crate::cmd::{Failure, live};
use crate::kernel::link::Device;
use crate::kernel::xtables::decode::read_scattered;
use crate::kernel::xtables::variant::Variant;
use crate::kernel::xtables::{Driver, observe_all};
use crate::net::Family;
use crate::plan::iptables::Comparison;
use crate::plan::ipvs::{Difference, Observed};

/// What can be typed about it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Difference")]
pub struct AgainstOptions {
    /// Compare with the kernel (`live`), with nothing (`empty`), or with a file that iptables-save wrote
    #[arg(long, value_name = "live|empty|FILE", default_value = "live")]
    pub against: String,
    /// Rules of IPv6 that ip6tables-save wrote, beside `--against FILE`
    #[arg(long, value_name = "FILE")]
    pub against_ipv6: Option<PathBuf>,
    /// Sets that `ipset save` wrote, beside `--against FILE`
    #[arg(long, value_name = "FILE")]
    pub against_ipset: Option<PathBuf>,
    /// Virtual servers that `ipvsadm -Sn` wrote, beside `--against-ipset FILE`, which tells whose they are
    #[arg(long, value_name = "FILE")]
    pub against_ipvs: Option<PathBuf>,
    /// Service addresses that `ip -o address show dev kube-ipvs0` wrote, beside `--against FILE`; without it, those that
    /// the sets say
    #[arg(long, value_name = "FILE")]
    pub against_addresses: Option<PathBuf>,
}

/// A flag, its file, and what it needs: whether that is so, and its name.
type Needs<'a> = (&'a str, &'a Option<PathBuf>, &'a [(bool, &'a str)]);

impl AgainstOptions {
    /// The flags checked against each other and against the mode.
    ///
    /// # Errors
    /// One line that names the flag and what it goes with.
    fn check(&self, rules: &RuleOptions) -> Result<(), Failure> {
        let is_ipvs = rules.proxy_mode == ProxyMode::Ipvs;
        let has_sets = is_ipvs || rules.egress.masquerade;
        let is_file = !matches!(self.against.as_str(), "live" | "empty");
        let beside_rules = (is_file, "--against FILE, the rules of IPv4");
        let in_mode = (is_ipvs, "--proxy-mode ipvs");
        let in_mode_or_egress = (has_sets, "--proxy-mode ipvs, or --masquerade-egress");
        let beside_sets =
            (self.against_ipset.is_some(), "--against-ipset FILE, which tells whose virtual servers they are");
        let needs: [Needs<'_>; 4] = [
            ("--against-ipv6", &self.against_ipv6, &[beside_rules]),
            ("--against-ipset", &self.against_ipset, &[in_mode_or_egress, beside_rules]),
            ("--against-ipvs", &self.against_ipvs, &[in_mode, beside_rules, beside_sets]),
            ("--against-addresses", &self.against_addresses, &[in_mode, beside_rules]),
        ];
        for (flag, file, needs) in needs {
            if let (Some(file), Some((_, what))) = (file, needs.iter().find(|(is_met, _)| !is_met)) {
                return Err(Failure::new(format!("{flag} {}: goes with {what}", file.display())));
            }
        }
        Ok(())
    }
}

/// What is compared with.
pub enum Against {
    Live(Driver, Option<Box<LiveObjects>>),
    Empty,
    /// Rules by family, and all else.
    Files(Vec<(Family, SavedFile)>, SavedObjects),
}

impl Against {
    /// `live` and `empty` are words; everything else is a file. One file says nothing about IPv6, so only IPv4 is
    /// compared then.
    ///
    /// # Errors
    /// Flags that do not go together; a file that cannot be opened; a kernel that lacks something.
    pub fn open(options: &AgainstOptions, rules: &RuleOptions) -> Result<Self, Failure> {
        options.check(rules)?;
        match options.against.as_str() {
            "live" => open_live(rules).map_err(|failure| {
                Failure::new(format!("{failure}; or compare without the kernel: --against empty, --against FILE"))
            }),
            "empty" => Ok(Against::Empty),
            file => {
                let open = |path: &Path, flag: &str| SavedFile::open(path, flag, "`live`, `empty` or saved rules");
                let mut saved = vec![(Family::V4, open(Path::new(file), "--against")?)];
                if let Some(file) = &options.against_ipv6 {
                    saved.push((Family::V6, open(file, "--against-ipv6")?));
                }
                Ok(Against::Files(saved, open_objects(options)?))
            }
        }
    }

    pub fn families(&self) -> Vec<Family> {
        match self {
            Against::Live(driver, _) => driver.families(),
            Against::Empty => Family::ALL.to_vec(),
            Against::Files(saved, _) => saved.iter().map(|(family, _)| *family).collect(),
        }
    }

    /// The accounting objects that rules would name.
    pub fn accounting(&self) -> Accounting {
        match self {
            Against::Live(driver, _) => Accounting::foretell(&driver.families()),
            Against::Empty => Accounting::default(),
            Against::Files(saved, _) => Accounting::named_in(saved.iter().map(|(_, file)| file.text.as_str())),
        }
    }

    /// For the form of restore input: that of the tools at hand, or the one that was asked for.
    pub fn variant(&self, choice: VariantChoice) -> Variant {
        match (self, choice) {
            (Against::Live(driver, _), _) => driver.variant(),
            (_, VariantChoice::Nft) => Variant::Nft,
            (_, VariantChoice::Legacy | VariantChoice::Auto) => Variant::Legacy,
        }
    }

    /// Shows every chain to the comparison.
    pub fn show(&mut self, comparison: &mut Comparison) -> Result<(), Failure> {
        match self {
            Against::Empty => Ok(()),
            Against::Live(driver, _) => show_live(driver, comparison),
            Against::Files(saved, _) => {
                saved.iter().try_for_each(|(family, file)| show_file(*family, file, comparison))
            }
        }
    }

    /// Everything but rules.
    pub fn observe(&mut self, families: &[Family]) -> Result<Observed, Failure> {
        match self {
            Against::Live(_, Some(objects)) => objects.observe(families),
            Against::Files(_, objects) => objects.observe(families),
            Against::Live(_, None) | Against::Empty => {
                Ok(Observed { sets: Vec::new(), device: Device::Absent, servers: Vec::new() })
            }
        }
    }

    /// Takes out of the difference what only comes from not knowing.
    pub fn adjust(&self, difference: &mut Difference) {
        if let Against::Files(..) = self {
            without_deadlines(&mut difference.servers);
        }
    }
}

fn open_live(rules: &RuleOptions) -> Result<Against, Failure> {
    let driver = live::open_as(rules)?;
    Ok(Against::Live(driver, LiveObjects::open(rules)?.map(Box::new)))
}

fn open_objects(options: &AgainstOptions) -> Result<SavedObjects, Failure> {
    let open = |file: &Option<PathBuf>, flag: &str, expected: &str| match file {
        Some(path) => SavedFile::open(path, flag, expected).map(Some),
        None => Ok(None),
    };
    Ok(SavedObjects {
        sets: open(&options.against_ipset, "--against-ipset", "what `ipset save` prints")?,
        servers: open(&options.against_ipvs, "--against-ipvs", "what `ipvsadm -Sn` prints")?,
        addresses: open(
            &options.against_addresses,
            "--against-addresses",
            "what `ip -o address show dev kube-ipvs0` prints",
        )?,
    })
}

fn show_live(driver: &mut Driver, comparison: &mut Comparison) -> Result<(), Failure> {
    let families = driver.families();
    observe_all(driver, &families, &mut |family, table, chain| comparison.observed(family, table, chain))
        .map_err(|error| Failure::new(error.to_string()))
}

fn show_file(family: Family, file: &SavedFile, comparison: &mut Comparison) -> Result<(), Failure> {
    let mut show = |table, chain| comparison.observed(family, table, chain);
    read_scattered(family, &mut file.text.as_bytes(), &mut show).map_err(|error| file.failure(error))
}
