//! The source that was typed, opened.

use std::path::Path;
use std::sync::Arc;

use kube::client::Client;

use crate::cmd::Failure;
use crate::cmd::options::SourceChoice;
use crate::source::{Updates, kube as api, manifest};
use crate::state::Kind;

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

impl Origin {
    /// What is known of an API server.
    pub fn api_status(&self) -> Option<Arc<api::Status>> {
        match self {
            Origin::Folder(_) => None,
            Origin::Api { status, .. } => Some(status.clone()),
        }
    }

    /// What is not as it should be: a line each.
    pub fn remarks(&self) -> Vec<String> {
        match self {
            Origin::Folder(status) => status.get().folder_error.iter().cloned().collect(),
            Origin::Api { status, .. } => Kind::ALL
                .into_iter()
                .filter_map(|kind| {
                    let followed = status.of(kind);
                    let why = followed.last_error.filter(|_| !followed.connected && followed.since.is_some())?;
                    Some(format!("{} objects are not followed, rules stay as they are: {why}", kind.as_str()))
                })
                .collect(),
        }
    }
}

/// Opens a source and starts to follow it. An API server that is away is not an error: it is waited for.
///
/// # Errors
/// An unreadable folder, a bad kubeconfig, no cluster around: one line that names it.
pub async fn open(source: &SourceChoice<'_>, mut config: api::Config) -> Result<Opened, Failure> {
    match *source {
        SourceChoice::Manifests(dir) => {
            let config = manifest::Config { dir: dir.to_owned(), node_name: config.node_name.into() };
            let (updates, status) = manifest::start(config).map_err(|error| Failure::new(error.to_string()))?;
            Ok(Opened { updates, origin: Origin::Folder(status) })
        }
        SourceChoice::ApiServer { kubeconfig, master } => {
            config.kubeconfig = kubeconfig.map(Path::to_owned);
            config.master = master.map(str::to_owned);
            let client = api::connect(&config).await.map_err(|error| Failure::new(error.to_string()))?;
            let (updates, status) = api::start(&client, &config);
            Ok(Opened { updates, origin: Origin::Api { client, status } })
        }
    }
}
