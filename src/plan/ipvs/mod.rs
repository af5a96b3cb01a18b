//! The IPVS plan: service ports → virtual servers, sets, addresses and the few rules around them (contract 4).

mod difference;

pub use difference::Difference;
