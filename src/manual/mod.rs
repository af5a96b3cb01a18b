//! The manual: why weir is as it is. It changes with the code, in the same commit.
//!
//! * [`architecture`]: the way of a fact to the kernel, and what must stay true on it
//! * [`rules`]: the iptables rules: chains, dispatch trees, groups, ownership, order
//! * [`ipvs`]: IPVS mode: its objects, ownership, drains, annotations, switching
//! * [`quirks`]: of kernels and tools, each with its home in the code
//! * [`decisions`]: what was decided, when, and what it was weighed against

pub mod architecture;
pub mod decisions;
pub mod ipvs;
pub mod quirks;
pub mod rules;
