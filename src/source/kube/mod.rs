//! Facts from a Kubernetes API server.
