//! Label and field selectors, in the forms that a service proxy sends.

use super::store::Object;

/// All of these must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    HasLabel { label: String, wanted: bool },
    Label { label: String, value: String, wanted: bool },
    Name { value: String, wanted: bool },
    ClusterIp { value: String, wanted: bool },
}

impl Selector {
    /// Reads both selectors; a field that is not known is refused, as the API server does.
    pub(super) fn parse(labels: Option<&str>, fields: Option<&str>) -> Result<Selector, String> {
        let mut requirements = Vec::new();
        for term in labels.unwrap_or_default().split(',').filter(|term| !term.is_empty()) {
            requirements.push(label_requirement(term));
        }
        for term in fields.unwrap_or_default().split(',').filter(|term| !term.is_empty()) {
            requirements.push(field_requirement(term)?);
        }
        Ok(Selector(requirements))
    }

    pub(super) fn matches(&self, object: &Object) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::HasLabel { label, wanted } => object.label(label).is_some() == *wanted,
            Requirement::Label { label, value, wanted } => (object.label(label) == Some(value)) == *wanted,
            Requirement::Name { value, wanted } => (&object.name == value) == *wanted,
            Requirement::ClusterIp { value, wanted } => (&object.cluster_ip == value) == *wanted,
        })
    }
}

fn label_requirement(term: &str) -> Requirement {
    match split(term) {
        Some((label, value, wanted)) => Requirement::Label { label, value, wanted },
        None => match term.strip_prefix('!') {
            Some(label) => Requirement::HasLabel { label: label.to_owned(), wanted: false },
            None => Requirement::HasLabel { label: term.to_owned(), wanted: true },
        },
    }
}

fn field_requirement(term: &str) -> Result<Requirement, String> {
    let (field, value, wanted) = split(term).ok_or_else(|| format!("invalid field selector: {term}"))?;
    match field.as_str() {
        "metadata.name" => Ok(Requirement::Name { value, wanted }),
        "spec.clusterIP" => Ok(Requirement::ClusterIp { value, wanted }),
        other => Err(format!("field label not supported: {other}")),
    }
}

/// `key=value`, `key==value` or `key!=value`.
fn split(term: &str) -> Option<(String, String, bool)> {
    let (key, value) = term.split_once('=')?;
    let value = value.strip_prefix('=').unwrap_or(value).to_owned();
    match key.strip_suffix('!') {
        Some(key) => Some((key.to_owned(), value, false)),
        None => Some((key.to_owned(), value, true)),
    }
}
