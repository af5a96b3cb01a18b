//! What the proxy serves over HTTP: health, and whatever else asks for pages. Plain HTTP/1.1 without TLS or
//! authentication, as load balancers, kubelets and Prometheus expect it of kube-proxy (contract 6).
//!
//! [`http`] is the small server that all endpoints share. It knows nothing of what it serves. [`metrics`] are counted and
//! written down; [`pages`] are all others of the metrics server.

pub mod health;
pub mod http;
pub mod metrics;
pub mod pages;
