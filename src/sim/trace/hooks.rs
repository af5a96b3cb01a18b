//! Which tables and IPVS hooks a packet meets, in the kernel's order.
//!
//! Priorities: uapi `linux/netfilter_ipv4.h` (mangle, nat DST, filter, nat SRC) and `ip_vs_ops4`, `ip_vs_ops6` of
//! `net/netfilter/ipvs/ip_vs_core.c`.

use crate::kernel::xtables::Table;

/// A hook, by the name of its built-in chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl Hook {
    pub const fn as_str(self) -> &'static str {
        match self {
            Hook::Prerouting => "PREROUTING",
            Hook::Input => "INPUT",
            Hook::Forward => "FORWARD",
            Hook::Output => "OUTPUT",
            Hook::Postrouting => "POSTROUTING",
        }
    }
}

/// What a packet meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The built-in chain of this hook in this table.
    Rules(Hook, Table),
    /// IPVS looks whether the packet is for a virtual server.
    Ipvs,
}

pub(super) type Stages = &'static [Stage];

const fn mangle(hook: Hook) -> Stage {
    Stage::Rules(hook, Table::Mangle)
}

const fn filter(hook: Hook) -> Stage {
    Stage::Rules(hook, Table::Filter)
}

const fn nat(hook: Hook) -> Stage {
    Stage::Rules(hook, Table::Nat)
}

/// Before the routing decision.
pub(super) const COMES_IN: Stages = &[mangle(Hook::Prerouting), nat(Hook::Prerouting)];
pub(super) const MADE_HERE: Stages = &[mangle(Hook::Output), nat(Hook::Output)];

/// After it. IPVS comes before nat INPUT by one (`NF_IP_PRI_NAT_SRC - 1`).
pub(super) const DELIVERED: Stages = &[mangle(Hook::Input), filter(Hook::Input), Stage::Ipvs, nat(Hook::Input)];
pub(super) const FORWARDED: Stages =
    &[mangle(Hook::Forward), filter(Hook::Forward), mangle(Hook::Postrouting), nat(Hook::Postrouting)];

/// IPVS comes after nat OUTPUT by two (`NF_IP_PRI_NAT_DST + 2`).
pub(super) const SENT: Stages = &[Stage::Ipvs, filter(Hook::Output), mangle(Hook::Postrouting), nat(Hook::Postrouting)];

/// IPVS is asked again when the packet comes back in, and does not know it then either: its destination is the same, or
/// it is marked as scheduled (`ipvs_property`).
pub(super) const SENT_TO_SELF: Stages = &[
    Stage::Ipvs,
    filter(Hook::Output),
    mangle(Hook::Postrouting),
    nat(Hook::Postrouting),
    mangle(Hook::Prerouting),
    mangle(Hook::Input),
    filter(Hook::Input),
];

/// Sent by IPVS to a real server on another node or in a pod. The hook OUTPUT is run through from its start, but nat
/// OUTPUT is not asked: the connection has its destination since nat PREROUTING or nat OUTPUT, if only a null binding.
pub(super) const SENT_BY_IPVS: Stages =
    &[mangle(Hook::Output), filter(Hook::Output), mangle(Hook::Postrouting), nat(Hook::Postrouting)];
