//! The rules about logs.

use super::error::{FieldError, Shown, Subject};
use crate::config::document::FlushFrequency;
use crate::config::{FeatureGates, LogOptions, Logging};

const MOST: u32 = i32::MAX.unsigned_abs();

const FORMAT: Subject = Subject::new("--logging-format", "logging.format");
const VMODULE: Subject = Subject::new("--vmodule", "logging.vmodule");

pub(super) fn all(logging: &Logging, gates: &FeatureGates) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if logging.flush_frequency.duration.nanos() <= 0 {
        let subject = Subject::new("--log-flush-frequency", "logging.flushFrequency");
        let value = logging.flush_frequency;
        errors.push(FieldError::invalid("logging.flushFrequency", value, "Must be greater than zero", subject));
    }
    match logging.format.as_str() {
        "text" => {}
        "json" if gates.is_enabled("LoggingBetaOptions") => {}
        "json" => {
            let detail = "Log format json is disabled, see LoggingBetaOptions feature".to_owned();
            errors.push(FieldError::forbidden("logging.format", detail, FORMAT));
        }
        other => errors.push(FieldError::invalid("logging.format", other, "Unsupported log format", FORMAT)),
    }
    let too_much = |path: &str, level: u32, subject| {
        (level > MOST).then(|| FieldError::invalid(path, level, &format!("Must be <= {MOST}"), subject))
    };
    errors.extend(too_much("logging.verbosity", logging.verbosity, Subject::new("-v", "logging.verbosity")));
    if !logging.vmodule.is_empty() && !["", "text"].contains(&logging.format.as_str()) {
        errors.push(FieldError::forbidden("logging.vmodule", "Only supported for text log format".to_owned(), VMODULE));
    }
    for (index, item) in logging.vmodule.iter().enumerate() {
        let path = format!("logging.vmodule[{index}]");
        if item.file_pattern.is_empty() {
            errors.push(FieldError::required(&path, "File pattern must not be empty", VMODULE));
        }
        if item.file_pattern.contains(['=', ',']) {
            let detail = "File pattern must not contain equal sign or comma";
            errors.push(FieldError::invalid(&path, item.file_pattern.as_str(), detail, VMODULE));
        }
        errors.extend(too_much(&path, item.verbosity, VMODULE));
    }
    errors.extend(options(
        "text",
        &logging.text,
        gates,
        [
            Subject::new("--log-text-split-stream", "logging.options.text.splitStream"),
            Subject::new("--log-text-info-buffer-size", "logging.options.text.infoBufferSize"),
        ],
    ));
    errors.extend(options(
        "json",
        &logging.json,
        gates,
        [
            Subject::new("--log-json-split-stream", "logging.options.json.splitStream"),
            Subject::new("--log-json-info-buffer-size", "logging.options.json.infoBufferSize"),
        ],
    ));
    errors
}

fn options(format: &str, options: &LogOptions, gates: &FeatureGates, subjects: [Subject; 2]) -> Vec<FieldError> {
    if gates.is_enabled("LoggingAlphaOptions") {
        return Vec::new();
    }
    let [split, size] = subjects;
    let set =
        [(options.split_stream, "splitStream", split), (!options.info_buffer_size.is_zero(), "infoBufferSize", size)];
    let set = set.into_iter().filter(|(is_set, ..)| *is_set);
    let forbidden = |(_, name, subject)| {
        let detail = "Feature LoggingAlphaOptions is disabled".to_owned();
        FieldError::forbidden(&format!("logging.options.{format}.{name}"), detail, subject)
    };
    set.map(forbidden).collect()
}

impl Shown for FlushFrequency {
    fn shown(&self) -> String {
        if self.is_text { self.duration.shown() } else { self.duration.nanos().to_string() }
    }
}
