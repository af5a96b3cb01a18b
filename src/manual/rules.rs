//! The iptables rules.
//!
//! # kube-proxy's, name by name
//!
//! All chains, rules, comments and hashes are kube-proxy's. Over a node where kube-proxy runs, `weir diff` is nearly
//! empty: what differs are the two things below, and only where a cluster is large enough to need them. The way back
//! works for the same reason, and because every chain that is ours alone in the nat table has a name that kube-proxy
//! takes for a stale one of its own and sweeps away.
//!
//! # The dispatch trees
//!
//! kube-proxy has one rule for each frontend in one chain, and every packet that no service wants tests all of them.
//! Here the entries of a dispatcher are a radix tree over half bytes of `address, protocol, port`
//! (`plan/iptables/dispatch`):
//!
//! * up to 48 entries are one chain, as kube-proxy writes it;
//! * above, a chain jumps to a chain for each branch. The root matches as long a prefix as all entries of a branch share,
//!   so that foreign traffic meets a rule or two;
//! * a branch that holds more than a quarter of its chain's entries is spread into the chain. Each level therefore has at
//!   most a quarter of the entries of the one above, and no choice of addresses nests chains deeper than the kernel
//!   follows (16, [`quirks`](super::quirks));
//! * trees exist for cluster IPs, external IPs and VIPs (nat and filter), for node ports (nat and filter, by port range),
//!   for the source range firewall and for health check node ports.
//!
//! A chain's content depends on the entries below its prefix alone, and its name is the prefix. The tree is a function
//! of the set of entries; a changed entry rewrites the few chains on its path.
//!
//! Tree chains are called `KUBE-SVC-s-…`, with a lower-case letter (which tree) and the half bytes of the prefix in
//! hexadecimal; service hashes have upper-case letters only.
//!
//! # Groups of endpoints
//!
//! Up to 32 endpoints a service's chain chooses among them as kube-proxy does. Above, it chooses a group with the
//! probability of the group's share, and the group's chain (`KUBE-SVC-HASHgNN`) chooses the endpoint: every endpoint has
//! the same probability, to the 2^-31 that the kernel counts in. An endpoint's group is a hash of its address, so adding
//! one endpoint to a thousand rewrites two chains of some thirty rules.
//!
//! Client IP affinity still tests each endpoint's list first. A list per group would be shorter to test, and wrong:
//! `xt_recent` keeps 100 clients a list, so a group of 30 endpoints would forget 29 of 30 clients.
//!
//! # Order
//!
//! Within a table, chains are written before the rules that lead to them, and deleted after the last such rule is gone.
//! Across tables, a service must never be seen half made: the filter table first gets the union of its old and new
//! rules (a refusal for a service that just lost its endpoints is there before the way to them goes), then nat changes,
//! then the filter table loses what is left over.
//!
//! # Ownership
//!
//! | chain | ours? |
//! |---|---|
//! | `KUBE-SERVICES`, `KUBE-NODEPORTS`, `KUBE-EXTERNAL-SERVICES`, `KUBE-FORWARD`, `KUBE-PROXY-FIREWALL`, `KUBE-POSTROUTING`, `KUBE-MARK-MASQ`, `KUBE-PROXY-CANARY` | yes: written whole |
//! | `KUBE-SVC-*`, `KUBE-SVL-*`, `KUBE-EXT-*`, `KUBE-FW-*`, `KUBE-SEP-*` | yes: written whole, deleted when no service needs them |
//! | built-in chains | no: our jumps are inserted at the head if they are missing |
//! | `KUBE-FIREWALL` | shared with the kubelet: our rule is appended if it is missing; never flushed, never deleted |
//! | `KUBE-KUBELET-CANARY`, `KUBE-IPTABLES-HINT`, everything else | no: never touched |
