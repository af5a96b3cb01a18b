//! What is asked for, for each kind: path, selectors and the URLs of lists and watches (contract 2.1).

use std::fmt::Write;

use super::step::Request;
use crate::state::Kind;

/// One followed resource.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub kind: Kind,
    /// As RBAC and `kubectl` write it: `endpointslices.discovery.k8s.io`.
    pub rbac_name: &'static str,
    path: &'static str,
    label_selector: Option<&'static str>,
    field_selector: Option<String>,
}

impl Resource {
    /// The resource of a kind; of Nodes, only the one with our name.
    pub fn new(kind: Kind, node_name: &str) -> Resource {
        let (rbac_name, path) = match kind {
            Kind::Service => ("services", "/api/v1/services"),
            Kind::EndpointSlice => ("endpointslices.discovery.k8s.io", "/apis/discovery.k8s.io/v1/endpointslices"),
            Kind::Node => ("nodes", "/api/v1/nodes"),
            Kind::ServiceCidr => ("servicecidrs.networking.k8s.io", "/apis/networking.k8s.io/v1/servicecidrs"),
        };
        let (label_selector, field_selector) = match kind {
            Kind::Service => {
                (Some("!service.kubernetes.io/service-proxy-name"), Some("spec.clusterIP!=None".to_owned()))
            }
            Kind::EndpointSlice => (Some("!service.kubernetes.io/headless"), None),
            Kind::Node => (None, Some(format!("metadata.name={}", escape_field_value(node_name)))),
            Kind::ServiceCidr => (None, None),
        };
        Resource { kind, rbac_name, path, label_selector, field_selector }
    }

    /// Path and query of a request. `timeout_seconds` is how long the server shall keep a watch.
    ///
    /// Lists ask for the most recent state (no `resourceVersion`): after a relist time must not run backwards, which a
    /// list from any server's cache could do.
    pub fn url(&self, request: &Request, timeout_seconds: u64) -> String {
        let mut query = Query::new(self.path);
        if let Some(selector) = self.label_selector {
            query.add("labelSelector", selector);
        }
        if let Some(selector) = &self.field_selector {
            query.add("fieldSelector", selector);
        }
        match request {
            Request::List { limit, continue_token } => {
                query.add("limit", &limit.to_string());
                if let Some(token) = continue_token {
                    query.add("continue", token);
                }
                return query.url;
            }
            Request::StreamingList => {
                query.add("sendInitialEvents", "true");
                query.add("resourceVersionMatch", "NotOlderThan");
            }
            Request::Watch { resource_version } => query.add("resourceVersion", resource_version),
        }
        query.add("watch", "true");
        query.add("allowWatchBookmarks", "true");
        query.add("timeoutSeconds", &timeout_seconds.to_string());
        query.url
    }
}

/// Escapes a value in a field selector: `\`, `,` and `=` have a meaning there.
fn escape_field_value(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

/// A URL under construction.
struct Query {
    url: String,
    separator: char,
}

impl Query {
    fn new(path: &str) -> Query {
        Query { url: path.to_owned(), separator: '?' }
    }

    fn add(&mut self, name: &str, value: &str) {
        self.url.push(self.separator);
        self.separator = '&';
        self.url.push_str(name);
        self.url.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                self.url.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(self.url, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_the_contracts() {
        let list = Request::List { limit: 500, continue_token: Some("a/b=".to_owned()) };
        let watch = Request::Watch { resource_version: "7".to_owned() };
        for (kind, request, url) in [
            (
                Kind::Service,
                &list,
                "/api/v1/services?labelSelector=%21service.kubernetes.io%2Fservice-proxy-name\
                 &fieldSelector=spec.clusterIP%21%3DNone&limit=500&continue=a%2Fb%3D",
            ),
            (
                Kind::EndpointSlice,
                &watch,
                "/apis/discovery.k8s.io/v1/endpointslices?labelSelector=%21service.kubernetes.io%2Fheadless\
                 &resourceVersion=7&watch=true&allowWatchBookmarks=true&timeoutSeconds=290",
            ),
            (
                Kind::Node,
                &Request::StreamingList,
                "/api/v1/nodes?fieldSelector=metadata.name%3Dn%5C%3D1&sendInitialEvents=true\
                 &resourceVersionMatch=NotOlderThan&watch=true&allowWatchBookmarks=true&timeoutSeconds=290",
            ),
            (
                Kind::ServiceCidr,
                &Request::List { limit: 1, continue_token: None },
                "/apis/networking.k8s.io/v1/servicecidrs?limit=1",
            ),
        ] {
            assert_eq!(Resource::new(kind, "n=1").url(request, 290), url);
        }
    }
}
