//! Names of objects and of service ports.

use std::fmt;
use std::sync::Arc;

/// `namespace/name` of an API object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectName {
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        ObjectName { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Identity of one service port: `(namespace, name, port name, protocol)` (contract 2.3).
///
/// The text form is `ns/name:port`, or `ns/name` where the port has no name; the protocol is part of the identity but
/// not of the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    pub service: ObjectName,
    pub port: Arc<str>,
    pub protocol: super::Protocol,
}

impl ServicePortName {
    pub fn new(service: ObjectName, port: impl Into<Arc<str>>, protocol: super::Protocol) -> Self {
        ServicePortName { service, port: port.into(), protocol }
    }
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}
