//! iptables-nft without its tools: rules of the nft variant as nf_tables messages.
//!
//! [`expression`] is one rule as expressions, and back.

pub mod expression;
