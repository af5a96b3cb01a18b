//! What cannot be used and is left out.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use ipnet::IpNet;

use crate::net::{ObjectName, Protocol, parse_cidr, parse_ip};

/// Part of an object that cannot be used and is left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// `Service ns/name`.
    pub object: String,
    /// `spec.externalIPs[1]`.
    pub field: String,
    pub value: String,
    pub expected: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {:?} is left out: expected {}", self.object, self.field, self.value, self.expected)
    }
}

/// Collects the problems of one object.
pub(super) struct Problems<'a> {
    kind: &'static str,
    name: &'a ObjectName,
    pub found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub fn new(kind: &'static str, name: &'a ObjectName) -> Self {
        Problems { kind, name, found: Vec::new() }
    }

    pub fn add(&mut self, field: impl Into<String>, value: impl fmt::Display, expected: &'static str) {
        let object = if self.name.namespace.is_empty() {
            format!("{} {}", self.kind, self.name.name)
        } else {
            format!("{} {}", self.kind, self.name)
        };
        self.found.push(Problem { object, field: field.into(), value: value.to_string(), expected });
    }

    /// A port in `1..=65535`.
    pub fn port(&mut self, field: impl FnOnce() -> String, port: i64) -> Option<u16> {
        match u16::try_from(port) {
            Ok(port) if port != 0 => Some(port),
            _ => {
                self.add(field(), port, "a port from 1 to 65535");
                None
            }
        }
    }

    /// A port in `1..=65535`, or 0 for none.
    pub fn optional_port(&mut self, field: impl FnOnce() -> String, port: Option<i64>) -> u16 {
        match port {
            None | Some(0) => 0,
            Some(port) => self.port(field, port).unwrap_or(0),
        }
    }

    pub fn protocol(&mut self, field: impl FnOnce() -> String, protocol: Option<&str>) -> Option<Protocol> {
        let text = protocol.filter(|text| !text.is_empty()).unwrap_or("TCP");
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.add(field(), text, "TCP, UDP or SCTP");
        }
        parsed
    }

    /// A name that ends up in the names and comments of kernel objects. An API server only takes DNS labels; where there
    /// is none, a quote or a line break must not get further than this.
    pub fn name<'t>(&mut self, field: impl FnOnce() -> String, text: &'t str) -> Option<&'t str> {
        let fine = is_name(text) || text.is_empty();
        if !fine {
            self.add(field(), text, NAME_EXPECTED);
        }
        fine.then_some(text)
    }

    /// Addresses of a list; empty strings are dropped silently (contract 2.3).
    pub fn ips<S: Deref<Target = str>>(&mut self, field: &str, texts: Option<&[S]>) -> Vec<IpAddr> {
        let mut ips = Vec::new();
        for (i, text) in texts.unwrap_or_default().iter().enumerate() {
            match parse_ip(text) {
                Some(ip) => ips.push(ip),
                None if text.is_empty() => {}
                None => self.add(format!("{field}[{i}]"), &**text, "an IPv4 or IPv6 address"),
            }
        }
        ips
    }

    /// Networks of a list, white space around them trimmed (contract 2.3).
    pub fn cidrs<S: Deref<Target = str>>(&mut self, field: &str, texts: Option<&[S]>) -> Vec<IpNet> {
        let mut nets = Vec::new();
        for (i, text) in texts.unwrap_or_default().iter().enumerate() {
            match parse_cidr(text.trim()) {
                Some(net) => nets.push(net),
                None if text.trim().is_empty() => {}
                None => self.add(format!("{field}[{i}]"), &**text, "a CIDR such as 10.0.0.0/8 or fd00::/64"),
            }
        }
        nets
    }

    /// One of two words; anything else is the default and a problem.
    pub fn choice<T: Default>(
        &mut self,
        field: &str,
        text: Option<&str>,
        choices: [(&str, T); 2],
        expected: &'static str,
    ) -> T {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return T::default() };
        for (word, value) in choices {
            if word == text {
                return value;
            }
        }
        self.add(field, text, expected);
        T::default()
    }
}

/// What [`is_name`] accepts, for messages.
pub const NAME_EXPECTED: &str = "at most 253 letters, digits, hyphens, dots and underscores";

/// Whether a text can be a name: what any kind of name that Kubernetes knows is made of.
pub fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}
