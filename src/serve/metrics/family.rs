//! Metrics as values: what is written down at a scrape, in whichever format.

use std::borrow::Cow;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// How far a metric of Kubernetes may change; its help text begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stability {
    Alpha,
    Beta,
    Stable,
}

impl Stability {
    pub const ALL: [Stability; 3] = [Stability::Alpha, Stability::Beta, Stability::Stable];

    pub const fn as_str(self) -> &'static str {
        match self {
            Stability::Alpha => "ALPHA",
            Stability::Beta => "BETA",
            Stability::Stable => "STABLE",
        }
    }
}

/// What is the same in every scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// As samples have it, `_total` of counters included.
    pub name: &'static str,
    pub kind: Kind,
    /// `None`: not told; metrics that Kubernetes does not know.
    pub stability: Option<Stability>,
    pub help: &'static str,
}

impl Description {
    pub const fn new(name: &'static str, kind: Kind, stability: Stability, help: &'static str) -> Self {
        Description { name, kind, stability: Some(stability), help }
    }

    /// One of weir's own, or of the process.
    pub const fn plain(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Description { name, kind, stability: None, help }
    }

    /// The name of the family in OpenMetrics, where counters are named without their ending.
    pub fn family(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        }
    }

    /// What is counted in, where the name says so.
    pub fn unit(&self) -> Option<&'static str> {
        ["seconds", "bytes"]
            .into_iter()
            .find(|unit| self.family().strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
    }

    /// A family of one sample without labels.
    pub fn alone(self, value: impl Into<Value>) -> Family {
        self.with([(Vec::new(), value.into())])
    }

    /// A family of these samples.
    pub fn with(self, samples: impl IntoIterator<Item = (Labels, Value)>) -> Family {
        let mut samples: Vec<Sample> = samples
            .into_iter()
            .map(|(mut labels, value)| {
                labels.sort_by_key(|(name, _)| *name);
                Sample { labels, value }
            })
            .collect();
        samples.sort_by(|a, b| a.labels.cmp(&b.labels));
        Family { description: self, samples }
    }
}

/// Names and values.
pub type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// What a sample says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Histogram(Distribution),
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Number(number)
    }
}

impl From<u64> for Value {
    #[allow(clippy::cast_precision_loss, reason = "the formats know no other numbers")]
    fn from(number: u64) -> Self {
        Value::Number(number as f64)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Value::from(number as u64)
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Value::from(u64::from(is))
    }
}

/// How often something was at most so much.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Upper bounds, rising, each with the number of what was at most that.
    pub buckets: Vec<(f64, u64)>,
    pub sum: f64,
    pub count: u64,
}

impl Distribution {
    /// From numbers of what was in each class: one for each bound, and one for what was beyond the last.
    pub fn of(bounds: impl IntoIterator<Item = f64>, counts: &[u64], sum: f64) -> Self {
        let mut count = 0;
        let buckets = bounds
            .into_iter()
            .zip(counts)
            .map(|(bound, in_class)| {
                count += in_class;
                (bound, count)
            })
            .collect();
        Distribution { buckets, sum, count: counts.iter().sum() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Sorted by name.
    pub labels: Labels,
    pub value: Value,
}

/// A metric with its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub description: Description,
    /// Sorted by labels.
    pub samples: Vec<Sample>,
}
