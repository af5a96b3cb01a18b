//! The facts of one moment.

use std::sync::Arc;
use std::time::Duration;

use crate::cmd::options::SourceChoice;
use crate::cmd::{Failure, proxy};
use crate::model::ServicePort;
use crate::net::Family;
use crate::resolve::{NodeContext, Options, resolve};
use crate::source::{kube, manifest};
use crate::state::{Kind, State};

/// Reads the source once.
///
/// # Errors
/// A folder that cannot be read or has a file that cannot be used: a dry run that left something out would lie. An API
/// server that does not answer in time.
pub fn read(source: &SourceChoice<'_>, node_name: &Arc<str>, timeout: Duration) -> Result<State, Failure> {
    match *source {
        SourceChoice::Manifests(dir) => {
            read_manifests(manifest::Config { dir: dir.to_owned(), node_name: node_name.clone() })
        }
        SourceChoice::ApiServer { .. } => read_api_server(source, node_name, timeout),
    }
}

fn read_manifests(config: manifest::Config) -> Result<State, Failure> {
    let loaded = manifest::load(config).map_err(|error| Failure::new(error.to_string()))?;
    if let Some(error) = loaded.errors.first() {
        let more = match loaded.errors.len() {
            1 => String::new(),
            2 => " (and 1 more file cannot be used)".to_owned(),
            n => format!(" (and {} more files cannot be used)", n - 1),
        };
        return Err(Failure::new(format!("{error}{more}")));
    }
    for (file, problem) in &loaded.problems {
        tracing::warn!(file = %file.display(), "{problem}");
    }
    for duplicate in &loaded.duplicates {
        tracing::warn!("{duplicate}");
    }
    let mut state = State::default();
    state.apply(loaded.updates);
    Ok(state)
}

fn read_api_server(source: &SourceChoice<'_>, node_name: &Arc<str>, timeout: Duration) -> Result<State, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let mut updates = proxy::open(source, kube::Config::new(&**node_name)).await?.updates;
        let mut state = State::default();
        let all = async {
            while !Kind::ALL.into_iter().all(|kind| state.is_synced(kind)) {
                match updates.recv().await {
                    Some(batch) => drop(state.apply(batch)),
                    None => return Err(Failure::new("the source of facts ended: see the log")),
                }
            }
            Ok(())
        };
        match tokio::time::timeout(timeout, all).await {
            Ok(result) => result.map(|()| state),
            Err(_) => Err(Failure::new(format!(
                "the API server did not tell everything within {timeout:?}: see the log above, or raise --timeout"
            ))),
        }
    })
}

/// Every service port, in order.
pub fn model(state: &State, node_name: Arc<str>, families: &[Family]) -> Vec<Arc<ServicePort>> {
    let context = NodeContext::of(state, node_name);
    let options = Options { families: super::enabled(families), ..Options::default() };
    let mut model: Vec<_> = state.service_names().flat_map(|name| resolve(state, name, &context, &options)).collect();
    model.sort_by(|a, b| a.key.cmp(&b.key));
    model
}
