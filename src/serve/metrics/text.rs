//! Families written down: the text format 0.0.4, byte for byte as kube-proxy's library writes it, and OpenMetrics 1.0.
//!
//! The two differ in the names of counter families, in the `# UNIT` lines and the `# EOF`, in escapes of help texts, and in
//! counts above a million, which the older format writes like any number. The bounds of buckets are written alike
//! (`le="1"`, where OpenMetrics suggests `1.0`): they are texts that rules and alerts match on, so which format was
//! negotiated must not show in them.

use std::fmt::Write;

use super::family::{Distribution, Family, Labels, Value};
use super::number::Number;

/// A format of scrapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// The text format 0.0.4.
    #[default]
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// Writes families down, in the order of their names. Families without samples are left out.
pub fn write(mut families: Vec<Family>, format: Format) -> String {
    families.sort_by_key(|family| family.description.name);
    let mut out = String::with_capacity(64 << 10);
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        Writer { out: &mut out, family, format }.family();
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

struct Writer<'a> {
    out: &'a mut String,
    family: &'a Family,
    format: Format,
}

impl Writer<'_> {
    fn family(&mut self) {
        self.header();
        for sample in &self.family.samples {
            match &sample.value {
                Value::Number(number) => self.sample("", &sample.labels, None, &Number(*number)),
                Value::Histogram(distribution) => self.histogram(&sample.labels, distribution),
            }
        }
    }

    fn header(&mut self) {
        let description = &self.family.description;
        let name = match self.format {
            Format::Text => description.name,
            Format::OpenMetrics => description.family(),
        };
        self.push(&["# HELP ", name, " "]);
        if let Some(stability) = description.stability {
            self.push(&["[", stability.as_str(), "] "]);
        }
        let quotes = self.format == Format::OpenMetrics;
        escape(self.out, description.help, quotes);
        self.push(&["\n# TYPE ", name, " ", description.kind.as_str(), "\n"]);
        if let (Format::OpenMetrics, Some(unit)) = (self.format, description.unit()) {
            self.push(&["# UNIT ", name, " ", unit, "\n"]);
        }
    }

    fn histogram(&mut self, labels: &Labels, distribution: &Distribution) {
        for (bound, count) in &distribution.buckets {
            self.sample("_bucket", labels, Some(*bound), &self.count(*count));
        }
        self.sample("_bucket", labels, Some(f64::INFINITY), &self.count(distribution.count));
        self.sample("_sum", labels, None, &Number(distribution.sum));
        self.sample("_count", labels, None, &self.count(distribution.count));
    }

    #[allow(clippy::cast_precision_loss, reason = "the older format has no other numbers")]
    fn count(&self, count: u64) -> Count {
        match self.format {
            Format::Text => Count::Number(Number(count as f64)),
            Format::OpenMetrics => Count::Whole(count),
        }
    }

    fn sample(&mut self, ending: &str, labels: &Labels, bound: Option<f64>, value: &dyn std::fmt::Display) {
        self.push(&[self.family.description.name, ending]);
        let mut opened = false;
        for (name, value) in labels {
            self.push(&[if std::mem::replace(&mut opened, true) { "," } else { "{" }, name, "=\""]);
            escape(self.out, value, true);
            self.out.push('"');
        }
        if let Some(bound) = bound {
            let separator = if std::mem::replace(&mut opened, true) { ',' } else { '{' };
            // Writing into a string does not fail.
            let _ = write!(self.out, "{separator}le=\"{}\"", Number(bound));
        }
        if opened {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }

    fn push(&mut self, parts: &[&str]) {
        self.out.extend(parts.iter().copied());
    }
}

enum Count {
    Number(Number),
    Whole(u64),
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Count::Number(number) => number.fmt(f),
            Count::Whole(count) => count.fmt(f),
        }
    }
}

/// Backslash and line feed are written with a backslash, and quotation marks where asked.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}
