//! Objects of a small cluster, for a folder and for the API server.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use weir::lab::Host;

use crate::api_server::ApiServer;

pub const NODE: &str = "node-a";

/// A service of one TCP port.
pub fn service(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "ns", "name": name},
        "spec": {
            "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "ports": [{"name": "p", "port": 80, "protocol": "TCP"}],
        },
    })
}

/// Its endpoints.
pub fn slice(service: &str, ips: &[&str]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "ns", "name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "p", "protocol": "TCP", "port": 8080}],
        "endpoints": ips.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect::<Vec<_>>(),
    })
}

/// How `iptables-save` prints that a packet goes to an endpoint of [`slice`].
pub fn to_endpoint(ip: &str) -> String {
    format!("--to-destination {ip}:8080")
}

/// A folder of manifests, a file for each service.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file beside the folder's and renames it into place.
    pub fn put(&self, file: &str, text: &str) {
        let hidden = self.path().join(format!(".{file}.new"));
        fs::write(&hidden, text).unwrap();
        fs::rename(hidden, self.path().join(file)).unwrap();
    }

    /// A service with its endpoints.
    pub fn serve(&self, name: &str, ip: &str, endpoints: &[&str]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [service(name, ip), slice(name, endpoints)]});
        self.put(&format!("{name}.json"), &list.to_string());
    }

    /// `--manifests=DIR`
    pub fn flag(&self) -> String {
        format!("--manifests={}", self.path().display())
    }
}

/// An API server on 127.0.0.1 of a host, and a kubeconfig for it.
pub struct Api {
    pub server: Arc<ApiServer>,
    /// Its threads are in the host's namespace, so what they bind is there.
    runtime: Runtime,
    kubeconfig: tempfile::NamedTempFile,
}

impl Api {
    pub fn start(host: &Host) -> Api {
        let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let runtime = host.run(build).unwrap();
        let server = Arc::new(runtime.block_on(runtime.spawn(ApiServer::start())).unwrap());
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": server.url()}}],
            "users": [{"name": "u", "user": {}}],
        });
        fs::write(kubeconfig.path(), config.to_string()).unwrap();
        Api { server, runtime, kubeconfig }
    }

    /// `--kubeconfig=FILE`
    pub fn flag(&self) -> String {
        format!("--kubeconfig={}", self.kubeconfig.path().display())
    }

    pub fn serve(&self, name: &str, ip: &str, endpoints: &[&str]) {
        self.server.put(service(name, ip));
        self.server.put(slice(name, endpoints));
    }

    /// Goes away: connections are cut and refused.
    pub fn stop(&self) {
        let server = self.server.clone();
        self.runtime.block_on(self.runtime.spawn(async move { server.stop().await })).unwrap();
    }

    /// Comes back, or cuts all connections if it was there.
    pub fn restart(&self) {
        let server = self.server.clone();
        self.runtime.block_on(self.runtime.spawn(async move { server.restart().await })).unwrap();
    }
}
