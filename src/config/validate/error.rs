//! An error about a field, as Kubernetes writes it.

use std::fmt;

use crate::config::{GoDuration, quote};

/// What somebody has to change: a flag, or a field of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    pub flag: Option<&'static str>,
    pub field: &'static str,
}

impl Subject {
    pub(super) const fn new(flag: &'static str, field: &'static str) -> Self {
        Subject { flag: Some(flag), field }
    }

    pub(super) const fn of_field(field: &'static str) -> Self {
        Subject { flag: None, field }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's path in kube-proxy, which is not always that of the file.
    pub path: String,
    /// `Invalid value`, `Unsupported value`, `Forbidden`, `Required value`.
    pub kind: &'static str,
    /// The value as it is shown, where it is.
    pub value: Option<String>,
    pub detail: String,
    pub subject: Subject,
}

impl FieldError {
    pub(super) fn invalid(path: &str, value: impl Shown, detail: &str, subject: Subject) -> Self {
        let value = Some(value.shown());
        FieldError { path: path.to_owned(), kind: "Invalid value", value, detail: detail.to_owned(), subject }
    }

    pub(super) fn not_supported(path: &str, value: &str, supported: &[&str], subject: Subject) -> Self {
        let names: Vec<String> = supported.iter().map(|name| quote(name)).collect();
        FieldError {
            path: path.to_owned(),
            kind: "Unsupported value",
            value: Some(value.shown()),
            detail: format!("supported values: {}", names.join(", ")),
            subject,
        }
    }

    pub(super) fn forbidden(path: &str, detail: String, subject: Subject) -> Self {
        FieldError { path: path.to_owned(), kind: "Forbidden", value: None, detail, subject }
    }

    pub(super) fn required(path: &str, detail: &str, subject: Subject) -> Self {
        FieldError { path: path.to_owned(), kind: "Required value", value: None, detail: detail.to_owned(), subject }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.kind)?;
        if let Some(value) = &self.value {
            write!(f, ": {value}")?;
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl std::error::Error for FieldError {}

/// How a value is shown in an error.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

impl Shown for &str {
    fn shown(&self) -> String {
        quote(self)
    }
}

impl Shown for i32 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for u32 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for GoDuration {
    fn shown(&self) -> String {
        format!("\"{self}\"")
    }
}

/// As JSON, in Go's way: what HTML would read is escaped.
impl Shown for &[String] {
    fn shown(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    }
}

/// Several errors as one, in Kubernetes' way: one is itself, more are in brackets, the same ones once.
pub(crate) fn aggregate(errors: impl Iterator<Item = String>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for error in errors {
        if !seen.contains(&error) {
            seen.push(error);
        }
    }
    match seen.as_slice() {
        [one] => one.clone(),
        _ => format!("[{}]", seen.join(", ")),
    }
}
