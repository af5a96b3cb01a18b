//! iptables-nft of several versions.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use weir::kernel::nfacct::Nfacct;
use weir::kernel::xtables::Table;
use weir::kernel::xtables::variant::{Variant, Version, parse_version};
use weir::lab::{rerun, skipped};
use weir::net::Family;

/// One version of the tools.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Where its packages are unpacked; `None` for the installed one.
    root: Option<PathBuf>,
    pub version: Version,
}

impl Tools {
    /// Every version to be had, each once.
    pub fn all() -> Vec<Tools> {
        let listed = std::env::var_os("WEIR_IPTABLES_VERSIONS").unwrap_or_default();
        let roots = std::env::split_paths(&listed).filter(|root| !root.as_os_str().is_empty()).map(Some);
        let mut found: BTreeMap<Version, Tools> = BTreeMap::new();
        for root in std::iter::once(None).chain(roots) {
            match Tools::at(root.clone()) {
                Ok(tools) => drop(found.entry(tools.version).or_insert(tools)),
                Err(why) => skipped(&format!(
                    "nft_rules with iptables-nft {}: {why}",
                    root.map_or("as installed".to_owned(), |root| format!("of {}", root.display()))
                )),
            }
        }
        let versions: Vec<String> = found.keys().map(Version::to_string).collect();
        eprintln!("iptables-nft versions: {}", versions.join(", "));
        if found.len() == 1 {
            skipped(&format!("nft_rules with other versions than {}: see test-harness/iptables-versions", versions[0]));
        }
        found.into_values().collect()
    }

    fn at(root: Option<PathBuf>) -> Result<Tools, String> {
        let mut tools = Tools { root, version: Version::OLDEST };
        let output = tools
            .command("iptables-nft")
            .arg("--version")
            .output()
            .map_err(|error| format!("cannot start: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match parse_version(&text) {
            Some((version, Variant::Nft)) => {
                tools.version = version;
                Ok(tools)
            }
            _ => Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default())),
        }
    }

    /// A tool to be run in the network namespace of the calling thread. An unpacked one runs with the libraries of its
    /// folder, its C library included if it has one.
    fn command(&self, name: &str) -> Command {
        let Some(root) = &self.root else { return Command::new(name) };
        let libraries = ["usr/lib", "lib"].map(|folder| root.join(folder).join(multiarch()));
        let path = std::env::join_paths(libraries.iter().filter(|folder| folder.is_dir())).unwrap();
        let program = root.join("usr/sbin").join(name);
        let mut command = match loader(&libraries) {
            Some(loader) => {
                let mut command = Command::new(loader);
                command.arg("--library-path").arg(path).arg(program);
                command
            }
            None => {
                let mut command = Command::new(program);
                command.env("LD_LIBRARY_PATH", path);
                command
            }
        };
        command.env("XTABLES_LIBDIR", root.join("usr/lib").join(multiarch()).join("xtables"));
        command
    }

    /// Runs a tool; gives what it prints. Fails if it fails.
    pub fn run(&self, family: Family, tool: &str, arguments: &[&str], input: &str) -> Result<String, String> {
        let name = match family {
            Family::V4 => format!("iptables-nft{tool}"),
            Family::V6 => format!("ip6tables-nft{tool}"),
        };
        let mut command = self.command(&name);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input.as_bytes()).ok());
            child.wait_with_output().unwrap()
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!("{name} {} {}: {} {}", self.version, arguments.join(" "), output.status, text(&output.stderr)))
        }
    }

    /// What `iptables-save` prints of a table.
    pub fn save(&self, family: Family, table: Table) -> String {
        self.run(family, "-save", &["-t", table.as_str()], "").unwrap()
    }
}

fn multiarch() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

/// The dynamic loader beside a C library.
fn loader(libraries: &[PathBuf]) -> Option<PathBuf> {
    let is_loader = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"));
    let files = libraries.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    files.map(|file| file.path()).find(|path| is_loader(path))
}

/// Runs a test in a network namespace that goes away with it, once for each version.
pub fn with_each_version(test: impl Fn(&Tools) + Sync) {
    if !rerun::allowed().unwrap() {
        return;
    }
    for tools in &Tools::all() {
        in_namespace(|| test(tools));
    }
}

/// Runs something in a network namespace that goes away with it.
pub fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let outcome = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            test()
        });
        outcome.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `ipset` in the network namespace of the calling thread. `false` if it is not installed.
pub fn ipset(arguments: &[&str], input: &str) -> bool {
    let child = Command::new("ipset").args(arguments).stdin(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        skipped("nft_rules: rules that look in sets (ipset is not installed)");
        return false;
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "ipset {arguments:?}: {input}");
    true
}

/// Makes the accounting objects that rules name. `false` if the kernel has none.
pub fn make_accounting_objects() -> bool {
    let made = Nfacct::open().and_then(|mut nfacct| {
        super::cases::ACCOUNTING_OBJECTS.into_iter().try_for_each(|name| nfacct.ensure(name))?;
        nfacct.match_is_there(Family::V4)
    });
    made.unwrap_or(false)
}
