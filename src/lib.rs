//! weir: a service proxy for Linux.
//!
//! *Facts come in, a model is resolved, a plan describes the kernel we want, a driver reads the kernel we have, the
//! difference is a value, and applying consumes exactly that value.* The modules, in that order:
//!
//! | stage | module | what it does |
//! |---|---|---|
//! | words | [`net`] | families, protocols, names, endpoints, the stable hash |
//! | | [`text`] | YAML and JSON to values with their places |
//! | | [`config`] | kube-proxy's flags and configuration: decode, default, complete, validate, write |
//! | facts | [`source`] | follows an API server or a folder of manifests |
//! | | [`state`] | holds what was told; says what a batch touched |
//! | model | [`resolve`] | state → model, pure: traffic policies, topology, terminating fallback |
//! | | [`model`] | the services we want, neutral of any backend; the oracle |
//! | | [`node`] | what this node is: addresses, families, pods' traffic; whether the configuration fits; pure |
//! | plan | [`plan`] | model → kernel objects, pure and sorted |
//! | kernel | [`kernel`] | a folder per object family: objects, encode, decode, order, I/O |
//! | | [`sim`] | a kernel in memory, with faults to inject, and the packet tracer |
//! | engine | [`engine`] | a pure step function: when to apply, retry, bisect, quarantine, repair |
//! | events | [`events`] | what `kubectl get events` shows |
//! | endpoints | [`serve`] | what is served over HTTP: health, metrics |
//! | faces | [`cmd`] | `weir proxy`, `weir diff`, `weir cleanup`, `weir demo` |
//! | | [`lab`] | a node, pods and an outside client in network namespaces |
//!
//! The reasons are in [`manual`].

pub mod cmd;
pub mod config;
pub mod engine;
pub mod events;
pub mod kernel;
pub mod lab;
pub mod manual;
pub mod model;
pub mod net;
pub mod node;
pub mod plan;
pub mod resolve;
pub mod serve;
pub mod sim;
pub mod source;
pub mod state;
pub mod text;
