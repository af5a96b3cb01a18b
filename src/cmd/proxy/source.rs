//! The source that was typed, opened.

use std::path::Path;
use std::sync::Arc;

use kube::client::Client;

use crate::cmd::Failure;
use crate::cmd::options::SourceChoice;
use crate::source::{Updates, kube as api, manifest};

/// Facts as they come, and what is known about where they come from.
pub struct Opened {
    pub updates: Updates,
    pub origin: Origin,
}

/// Where facts come from.
pub enum Origin {
    Folder(manifest::Status),
    /// The client may be used for other requests.
    Api {
        client: Client,
        status: Arc<api::Status>,
    },
}

/// Opens a source and starts to follow it. An API server that is away is not an error: it is waited for.
///
/// # Errors
/// An unreadable folder, a bad kubeconfig, no cluster around: one line that names it.
pub async fn open(source: &SourceChoice<'_>, node_name: &Arc<str>) -> Result<Opened, Failure> {
    match *source {
        SourceChoice::Manifests(dir) => {
            let config = manifest::Config { dir: dir.to_owned(), node_name: node_name.clone() };
            let (updates, status) = manifest::start(config).map_err(|error| Failure::new(error.to_string()))?;
            Ok(Opened { updates, origin: Origin::Folder(status) })
        }
        SourceChoice::ApiServer { kubeconfig, master } => {
            let mut config = api::Config::new(&**node_name);
            config.kubeconfig = kubeconfig.map(Path::to_owned);
            config.master = master.map(str::to_owned);
            let client = api::connect(&config).await.map_err(|error| Failure::new(error.to_string()))?;
            let (updates, status) = api::start(&client, &config);
            Ok(Opened { updates, origin: Origin::Api { client, status } })
        }
    }
}
