//! What all objects have.

use std::ops::Deref;

use serde::Deserialize;

use super::Annotations;
use crate::net::ObjectName;

/// `metadata`, with just the labels and annotations that are read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct Metadata<S = String> {
    pub name: S,
    pub namespace: Option<S>,
    pub resource_version: Option<S>,
    pub labels: Option<Labels<S>>,
    pub annotations: Option<Annotations<S>>,
    pub deletion_timestamp: Option<S>,
}

/// Labels that are read; all others are skipped.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct Labels<S = String> {
    #[serde(rename = "service.kubernetes.io/service-proxy-name")]
    pub proxy_name: Option<S>,
    #[serde(rename = "service.kubernetes.io/headless")]
    pub headless: Option<S>,
    #[serde(rename = "kubernetes.io/service-name")]
    pub service_name: Option<S>,
    #[serde(rename = "topology.kubernetes.io/zone")]
    pub zone: Option<S>,
}

impl<S: Deref<Target = str>> Metadata<S> {
    /// Namespace (`default` where none is given) and name of a namespaced object.
    pub fn place(&self) -> (&str, &str) {
        let namespace = self.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        (namespace.unwrap_or("default"), &self.name)
    }

    /// Name of a namespaced object; `default` where no namespace is given.
    pub fn object_name(&self) -> ObjectName {
        let (namespace, name) = self.place();
        ObjectName::new(namespace, name)
    }

    /// The version, where there is one.
    pub fn version(&self) -> Option<&str> {
        self.resource_version.as_deref().filter(|version| !version.is_empty())
    }
}
