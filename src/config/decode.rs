//! Text to [`Document`]: strictly first, leniently where only strictness failed (contract 1.5).

use serde::Deserialize;

use super::{API_VERSION, Document, KIND};
use crate::text::{Habits, Mistake, Node, Place, Spot, Value, decode_noting, json, yaml};

/// Why a text is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", .place.map(|place| format!("{place}: ")).unwrap_or_default())]
pub struct DecodeError {
    pub place: Option<Place>,
    pub message: String,
}

/// Reads a configuration, YAML or JSON. Beside it come warnings, one for each field that is unknown or there twice: of
/// such a field the last one counts, with its line and column.
///
/// # Errors
/// No YAML or JSON, another kind, a value of the wrong type.
pub fn decode(text: &str) -> Result<(Document, Vec<String>), DecodeError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let place = |mistake: &Mistake| mistake.spot.place(text);
    let read = || {
        let mut node = first(text)?;
        let mut doubts = node.drop_duplicates();
        check_kind(&node)?;
        let (document, unknown) = decode_noting::<Document>(&node)?;
        doubts.extend(unknown);
        Ok((document, doubts))
    };
    let (document, mut doubts) =
        read().map_err(|mistake: Mistake| DecodeError { place: place(&mistake), message: mistake.message })?;
    doubts.sort_by_key(place);
    let warnings = doubts.into_iter().map(|doubt| match place(&doubt) {
        Some(place) => format!("{place}: {}", doubt.message),
        None => doubt.message,
    });
    Ok((document, warnings.collect()))
}

/// The first document of a text; what begins with a brace is JSON. kube-proxy reads no more than that either.
fn first(text: &str) -> Result<Node, Mistake> {
    let is_json = text.trim_start().starts_with('{');
    let documents = match is_json {
        true => json::parse(text, Habits::Go).or_else(|mistake| {
            // A flow mapping of YAML begins with a brace, too. If it is neither, it was more likely meant as JSON.
            yaml::parse(text, true, Habits::Go).map_err(|_| mistake)
        }),
        false => yaml::parse(text, true, Habits::Go),
    }?;
    let nothing = || {
        Mistake::new(
            Spot::Unknown,
            format!("Object 'Kind' is missing in an empty text: expected kind {KIND} of {API_VERSION}"),
        )
    };
    documents.into_iter().next().ok_or_else(nothing)
}

/// Only the type of a document.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Type {
    api_version: String,
    kind: String,
}

fn check_kind(node: &Node) -> Result<(), Mistake> {
    let expected = format!("expected `apiVersion: {API_VERSION}` and `kind: {KIND}`");
    if !matches!(node.value, Value::Map(_)) {
        return Err(Mistake::new(node.spot, format!("{expected}, found {}", node.value)));
    }
    let found: Type = crate::text::decode(node)?;
    let wrong = match (found.api_version.as_str(), found.kind.as_str()) {
        (API_VERSION, KIND) => return Ok(()),
        (_, "") => format!("Object 'Kind' is missing: {expected}"),
        ("", _) => format!("Object 'apiVersion' is missing: {expected}"),
        (version, kind) => {
            format!("no kind {} is registered for version {}: {expected}", super::quote(kind), super::quote(version))
        }
    };
    let at = node.get("kind").or_else(|| node.get("apiVersion")).unwrap_or(node);
    Err(Mistake::new(at.spot, wrong))
}
