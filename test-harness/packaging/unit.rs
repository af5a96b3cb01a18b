//! `systemd/weir-proxy.service`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;
use weir::lab::skipped;

use crate::command::{CONFIG, Image};
use crate::{repository, text};

const UNIT: &str = "systemd/weir-proxy.service";
const OLDER: &str = "systemd/weir-proxy.service.d/before-253.conf";
/// Where the unit expects the program.
const PROGRAM: &str = "/usr/local/bin/weir";
/// What `systemd-analyze security` may say at most, in tenths: 0 is best, 100 worst.
const EXPOSURE: u32 = 25;

/// All values of a setting, in order.
fn settings(unit: &str, name: &str) -> Vec<String> {
    let settings = unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    settings.filter(|(found, _)| *found == name).map(|(_, value)| value.to_owned()).collect()
}

/// The number in `systemd 252 (252.38-1)`; nothing if there is no `systemd-analyze`.
fn version() -> Option<u32> {
    let output = Command::new("systemd-analyze").arg("--version").output().ok()?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1)?.parse().ok()
}

/// The unit with a program that is there.
struct Installed(TempDir);

impl Installed {
    fn new() -> Installed {
        let folder = tempfile::tempdir().unwrap();
        let unit = text(UNIT).replace(PROGRAM, env!("CARGO_BIN_EXE_weir"));
        fs::write(folder.path().join("weir-proxy.service"), unit).unwrap();
        let more = folder.path().join("weir-proxy.service.d");
        fs::create_dir(&more).unwrap();
        fs::copy(repository(OLDER), more.join("before-253.conf")).unwrap();
        Installed(folder)
    }

    fn unit(&self) -> PathBuf {
        self.0.path().join("weir-proxy.service")
    }

    fn analyze(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("systemd-analyze");
        // The colon adds the system's own units.
        command.env("SYSTEMD_UNIT_PATH", format!("{}:", self.0.path().display())).env("NO_COLOR", "1");
        command.args(["--no-pager"]).args(arguments).arg(self.unit()).output().unwrap()
    }
}

#[test]
fn systemd_finds_nothing_wrong() {
    let Some(version) = version() else { return skipped("packaging: systemd-analyze (Debian: systemd)") };
    let output = Installed::new().analyze(&["verify"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let knows_reloads = version >= 253;
    if !knows_reloads {
        skipped(&format!("packaging: Type=notify-reload itself: this is systemd {version}, which has not got it"));
        assert!(said.contains("notify-reload"), "{said}");
    }
    let known = |line: &&str| !knows_reloads && line.contains("Failed to parse service type, ignoring: notify-reload");
    let wrong: Vec<&str> =
        said.lines().filter(|line| line.contains("weir-proxy")).filter(|line| !known(line)).collect();
    assert!(output.status.success() && wrong.is_empty(), "{said}");
}

#[test]
fn systemd_sees_little_exposure() {
    if version().is_none() {
        return skipped("packaging: systemd-analyze (Debian: systemd)");
    }
    let installed = Installed::new();
    let security =
        |threshold: u32| installed.analyze(&["security", "--offline=true", &format!("--threshold={threshold}")]);
    let output = security(EXPOSURE);
    let table = String::from_utf8_lossy(&output.stdout);
    let overall = table.lines().find(|line| line.contains("exposure level")).unwrap_or_default();
    println!("{overall}");
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    // The question can be answered with no.
    assert!(!security(1).status.success(), "{overall}");
}

#[test]
fn its_command_line_is_understood() {
    let unit = text(UNIT);
    let [command] = &settings(&unit, "ExecStart")[..] else { panic!("one ExecStart") };
    let (program, flags) = command.split_once(' ').unwrap();
    assert_eq!(program, PROGRAM);
    let environment = settings(&unit, "Environment");
    let path = environment.iter().find_map(|variable| variable.strip_prefix("WEIR_CONFIG=")).unwrap();
    assert!(environment.iter().any(|variable| variable == "WEIR_FLAGS="));
    let flags: Vec<String> = flags
        .split(' ')
        .map(|flag| flag.replace("${WEIR_CONFIG}", path))
        .filter(|flag| flag != "$WEIR_FLAGS")
        .collect();
    assert!(flags.iter().all(|flag| !flag.contains('$')), "{flags:?}");
    let written = Image::new().read(&flags, path, CONFIG).unwrap_or_else(|ran| panic!("{ran:?}"));
    assert!(written.contains("mode: ipvs"), "{written}");
}

/// What must not get lost in editing, with systemd or without.
#[test]
fn it_promises_what_the_program_does() {
    let unit = text(UNIT);
    let one = |name: &str| settings(&unit, name).join(" | ");
    for (name, value) in [
        ("Type", "notify-reload"),
        ("NotifyAccess", "main"),
        ("Restart", "always"),
        // Nothing takes rules away at a stop, and tools that write are not cut off.
        ("ExecStop", ""),
        ("ExecStopPost", ""),
        ("KillMode", "mixed"),
        ("CapabilityBoundingSet", "CAP_NET_ADMIN CAP_NET_RAW"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectKernelModules", "yes"),
        ("ReadWritePaths", "/proc/sys/net | -/sys/module/nf_conntrack/parameters | -/run/xtables.lock"),
    ] {
        assert_eq!(one(name), value, "{name}");
    }
    assert!(one("WatchdogSec").parse::<u32>().unwrap() >= 30, "a loaded node is no dead one");
    // It runs in the host's network.
    assert!(one("PrivateNetwork").is_empty() && one("IPAddressDeny").is_empty());
}

#[test]
fn older_systemd_reloads_by_a_signal() {
    let more = text(OLDER);
    assert_eq!(settings(&more, "Type"), ["notify"]);
    assert_eq!(settings(&more, "ExecReload"), ["/bin/kill -HUP $MAINPID"]);
}
