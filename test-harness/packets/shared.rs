//! What the suites `packets` and `ipvs` share: the lab with weir, what clients see, and cases for every mode.

#[path = "egress.rs"]
pub mod egress;
#[path = "fixture.rs"]
pub mod fixture;
#[path = "judge.rs"]
pub mod judge;
#[path = "kube_proxy.rs"]
pub mod kube_proxy;
#[path = "left.rs"]
pub mod left;
#[path = "manifests.rs"]
pub mod manifests;
#[path = "node.rs"]
pub mod node;
#[path = "seen.rs"]
pub mod seen;
#[path = "served.rs"]
pub mod served;
#[path = "stream.rs"]
pub mod stream;
#[path = "variants.rs"]
pub mod variants;
#[path = "world.rs"]
pub mod world;
