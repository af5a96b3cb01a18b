//! What a health check answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::IsHealthy;
use crate::net::ObjectName;
use crate::serve::http::{Handler, page};

const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// The answers of one service in one family.
#[derive(Clone, Debug)]
pub(super) struct Page {
    service: ObjectName,
    /// Endpoints on this node.
    local: Arc<AtomicUsize>,
}

impl Page {
    pub(super) fn new(service: ObjectName) -> Self {
        Page { service, local: Arc::default() }
    }

    /// From now on there are so many endpoints on this node.
    pub(super) fn count(&self, local: usize) {
        self.local.store(local, Ordering::Relaxed);
    }

    /// Any path, any method.
    pub(super) fn handler(&self, is_healthy: IsHealthy) -> Handler {
        let page = self.clone();
        Handler::new(move |_, _| page.answer(is_healthy()))
    }

    pub(super) fn answer(&self, proxy_healthy: bool) -> Response<Bytes> {
        let local = self.local.load(Ordering::Relaxed);
        let code = if local > 0 && proxy_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut response = page(code, "application/json", self.body(local, proxy_healthy));
        response.headers_mut().insert(WEIGHT, HeaderValue::from(local));
        response
    }

    fn body(&self, local: usize, proxy_healthy: bool) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let namespace = quoted(&self.service.namespace);
        let name = quoted(&self.service.name);
        [
            "{\n",
            "\t\"service\": {\n",
            &format!("\t\t\"namespace\": {namespace},\n"),
            &format!("\t\t\"name\": {name}\n"),
            "\t},\n",
            &format!("\t\"localEndpoints\": {local},\n"),
            &format!("\t\"serviceProxyHealthy\": {proxy_healthy}\n"),
            "}",
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_golden() {
        let page = Page::new(ObjectName::new("a", "b"));
        page.count(18);
        let response = page.answer(true);
        assert_eq!(response.status(), StatusCode::OK);
        let headers: Vec<(&str, &str)> =
            response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let expected = [
            ("content-type", "application/json"),
            ("x-content-type-options", "nosniff"),
            ("x-load-balancing-endpoint-weight", "18"),
        ];
        assert_eq!(headers, expected);
        let body = "{\n\t\"service\": {\n\t\t\"namespace\": \"a\",\n\t\t\"name\": \"b\"\n\t},\n\t\"localEndpoints\": 18,\n\t\"serviceProxyHealthy\": true\n}";
        assert_eq!(response.body(), body);
    }

    #[test]
    fn codes() {
        let page = Page::new(ObjectName::new("a", "b"));
        for (local, healthy, code) in [(0, true, 503), (0, false, 503), (1, false, 503), (1, true, 200)] {
            page.count(local);
            assert_eq!(page.answer(healthy).status(), code, "{local} {healthy}");
        }
    }
}
