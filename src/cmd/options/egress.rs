//! Flags of node egress: what pods send out of the cluster.

use clap::{ArgAction, Args};
use ipnet::IpNet;

use super::{List, cidrs};
use crate::config::switch;

/// Whether and where traffic of local pods gets the node's address on its way out.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Node egress")]
pub struct EgressOptions {
    /// What local pods send out of the cluster leaves with the node's address. Needs --cluster-cidr, or
    /// --detect-local-mode=NodeCIDR (weir only)
    #[arg(long = "masquerade-egress", value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set)]
    pub masquerade: bool,
    /// Networks to which pods keep their own addresses with --masquerade-egress, beside those of the cluster's pods, of
    /// the node, link-local and multicast ones (weir only)
    #[arg(long, value_name = "CIDR[,CIDR…]", value_parser = cidrs, action = ArgAction::Append)]
    pub non_masquerade_cidrs: Vec<List<IpNet>>,
}

impl EgressOptions {
    /// The networks of all `--non-masquerade-cidrs`, as typed.
    pub fn non_masquerade_cidrs(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.non_masquerade_cidrs.iter().flat_map(|list| list.0.iter().copied())
    }
}
