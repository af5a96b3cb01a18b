//! etcd and kube-apiserver, in the network namespace of a node.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use weir::lab::{Host, HostChild, skipped};
use weir::net::{Family, stable_hash64};

use crate::admin::Admin;
use crate::http;

/// Who may do anything.
pub const ADMIN_TOKEN: &str = "admin";

const ETCD: u16 = 2379;
const PEERS: u16 = 2380;
pub const PORT: u16 = 6443;

/// How long the two may take to start. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(180);

/// Requests are noted with who made them and what became of them.
const AUDIT_POLICY: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n  omitStages: [RequestReceived]\n";

/// The folder with both programs, or nothing once it was said that there is none.
pub fn assets() -> Option<PathBuf> {
    const INSTEAD: &str = "the scripted API server stands in";
    let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()) else {
        skipped(&format!("apiserver: KUBEBUILDER_ASSETS names no folder with etcd and kube-apiserver; {INSTEAD}"));
        return None;
    };
    let folder = PathBuf::from(folder);
    let missing = ["etcd", "kube-apiserver"].into_iter().find(|program| !folder.join(program).is_file());
    match missing {
        None => Some(folder),
        Some(program) => {
            skipped(&format!("apiserver: no {program} in KUBEBUILDER_ASSETS ({}); {INSTEAD}", folder.display()));
            None
        }
    }
}

/// Both, running. They end when this is dropped. Their ports are open in the namespace of their host, which nobody
/// outside can reach.
pub struct ControlPlane<'a> {
    host: &'a Host,
    assets: PathBuf,
    folder: TempDir,
    server: HostChild,
    _etcd: HostChild,
}

impl<'a> ControlPlane<'a> {
    pub fn start(host: &'a Host, assets: &Path) -> ControlPlane<'a> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokens.csv"), format!("{ADMIN_TOKEN},admin,admin,system:masters\n")).unwrap();
        fs::write(folder.path().join("audit.yaml"), AUDIT_POLICY).unwrap();
        let etcd = host.spawn(etcd(assets, folder.path())).unwrap();
        let server = host.spawn(server(host, assets, folder.path())).unwrap();
        let mut running = ControlPlane { host, assets: assets.to_owned(), folder, server, _etcd: etcd };
        running.wait_until_ready();
        running
    }

    /// The certificate authority of the server.
    fn authority(&self) -> PathBuf {
        self.folder.path().join("certs/apiserver.crt")
    }

    /// A file by which a program speaks to the server as who has this token.
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        let file = self.folder.path().join(format!("kubeconfig-{}", stable_hash64(token.as_bytes())));
        // Its certificate is for the address that it is known by, which is the host's own and so on its loopback.
        let server = format!("https://{}:{PORT}", self.host.address(Family::V4).unwrap());
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": server, "certificate-authority": self.authority()}}],
            "users": [{"name": "u", "user": {"token": token}}],
        });
        fs::write(&file, config.to_string()).unwrap();
        file
    }

    /// The server dies at once, and its connections with it. What it stored stays.
    pub fn stop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.server = self.host.spawn(server(self.host, &self.assets, self.folder.path())).unwrap();
        self.wait_until_ready();
    }

    /// etcd forgets everything but what is there now.
    pub fn compact(&self) {
        let status = http::post(self.host, ETCD, "/v3/maintenance/status", "{}");
        let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
        let revision = status["header"]["revision"].as_str().unwrap();
        let answer = http::post(self.host, ETCD, "/v3/kv/compaction", &json!({"revision": revision}).to_string());
        assert_eq!(answer.code, 200, "{}", answer.body);
    }

    /// Every request that was answered so far.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let log = fs::read_to_string(self.folder.path().join("audit.log")).unwrap_or_default();
        // The last line may be on its way.
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn wait_until_ready(&mut self) {
        let begin = Instant::now();
        while let Err(why) = self.is_ready() {
            let ended = self.server.try_wait().unwrap();
            let waits = ended.is_none() && begin.elapsed() < PATIENCE;
            assert!(waits, "kube-apiserver {ended:?}: {why}\n{}", self.last_words());
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    fn is_ready(&self) -> Result<(), String> {
        if self.authority().exists() { Admin::new(self.host, self).is_ready() } else { Err("no certificate".into()) }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("apiserver.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

fn logged(mut command: Command, file: &Path) -> Command {
    let log = File::options().append(true).create(true).open(file).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command
}

fn etcd(assets: &Path, folder: &Path) -> Command {
    let mut command = Command::new(assets.join("etcd"));
    let (clients, peers) = (format!("http://127.0.0.1:{ETCD}"), format!("http://127.0.0.1:{PEERS}"));
    command.arg(format!("--data-dir={}", folder.join("etcd").display()));
    command.args([format!("--listen-client-urls={clients}"), format!("--advertise-client-urls={clients}")]);
    command.args([format!("--listen-peer-urls={peers}"), format!("--initial-advertise-peer-urls={peers}")]);
    command.args([format!("--initial-cluster=default={peers}"), "--log-level=error".into()]);
    logged(command, &folder.join("etcd.log"))
}

/// It makes its certificates itself, and signs the tokens of service accounts with the key of its own.
fn server(host: &Host, assets: &Path, folder: &Path) -> Command {
    let mut command = Command::new(assets.join("kube-apiserver"));
    let path = |name: &str| folder.join(name).display().to_string();
    let key = path("certs/apiserver.key");
    let address = host.address(Family::V4).unwrap();
    for (flag, value) in [
        ("etcd-servers", format!("http://127.0.0.1:{ETCD}")),
        ("etcd-compaction-interval", "0".to_owned()),
        ("cert-dir", path("certs")),
        ("bind-address", "0.0.0.0".to_owned()),
        ("advertise-address", address.to_string()),
        ("secure-port", PORT.to_string()),
        ("service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/108".to_owned()),
        ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
        ("service-account-signing-key-file", key.clone()),
        ("service-account-key-file", key),
        ("token-auth-file", path("tokens.csv")),
        ("authorization-mode", "RBAC".to_owned()),
        // Pods need no account here: there is nobody to make the default ones.
        ("disable-admission-plugins", "ServiceAccount".to_owned()),
        ("audit-policy-file", path("audit.yaml")),
        ("audit-log-path", path("audit.log")),
    ] {
        command.arg(format!("--{flag}={value}"));
    }
    logged(command, &folder.join("apiserver.log"))
}
