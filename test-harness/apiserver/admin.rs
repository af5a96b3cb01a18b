//! The administrator: plain requests, JSON in and out.

use std::time::Duration;

use kube::Config;
use kube::client::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tokio::runtime::Runtime;
use weir::lab::Host;

use crate::control_plane::{ADMIN_TOKEN, ControlPlane};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(20);

pub struct Admin {
    client: Client,
    /// Its threads are in the host's namespace.
    runtime: Runtime,
}

impl Admin {
    pub fn new(host: &Host, server: &ControlPlane<'_>) -> Admin {
        let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let runtime = host.run(build).unwrap();
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig(ADMIN_TOKEN)).unwrap();
        let connect = async {
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
            Client::try_from(config).unwrap()
        };
        let client = runtime.block_on(connect);
        Admin { client, runtime }
    }

    /// # Errors
    /// What the server said instead, or that it said nothing.
    pub fn is_ready(&self) -> Result<(), String> {
        let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
        let client = self.client.clone();
        let answer = async move { tokio::time::timeout(TIMEOUT, client.request_text(request)).await };
        let answered = self.runtime.block_on(self.runtime.spawn(answer)).unwrap();
        let text = answered.map_err(|error| error.to_string())?.map_err(|error| format!("{error:?}"))?;
        if text == "ok" { Ok(()) } else { Err(text) }
    }

    pub fn get(&self, path: &str) -> Value {
        self.send("GET", path, "", &Value::Null)
    }

    /// Makes an object, which goes into the collection at this path; returns it as the server made it.
    pub fn create(&self, collection: &str, object: &Value) -> Value {
        self.send("POST", collection, "application/json", object)
    }

    /// Changes some fields.
    pub fn patch(&self, path: &str, fields: &Value) -> Value {
        self.send("PATCH", path, "application/merge-patch+json", fields)
    }

    pub fn delete(&self, path: &str) {
        self.send("DELETE", path, "", &Value::Null);
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: &Value) -> Value {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request =
            http::Request::builder().method(method).uri(path).header("content-type", kind).body(bytes).unwrap();
        let client = self.client.clone();
        let answer = async move { tokio::time::timeout(TIMEOUT, client.request::<Value>(request)).await };
        let answered = self.runtime.block_on(self.runtime.spawn(answer)).unwrap();
        let said = |error: &dyn std::fmt::Debug| -> ! { panic!("{method} {path} {body}: {error:?}") };
        answered.unwrap_or_else(|error| said(&error)).unwrap_or_else(|error| said(&error))
    }
}
