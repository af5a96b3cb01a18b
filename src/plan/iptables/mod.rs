//! The iptables plan.
