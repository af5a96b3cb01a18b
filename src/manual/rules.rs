//! The iptables rules.
//!
//! # kube-proxy's, name by name
//!
//! All chains, rules, comments and hashes are kube-proxy's. What differs are the three things below: the chains of
//! endpoints on other nodes, which we do without, and two kinds of chains that are split where a cluster is large enough
//! to need it. So `weir diff` over a node where kube-proxy runs shows the chains that choose endpoints (`KUBE-SVC-*`)
//! changed where an endpoint is on another node, and that endpoint's `KUBE-SEP-*` gone; on a node alone it is empty.
//! `KUBE-SERVICES`, `KUBE-NODEPORTS`, `KUBE-EXT-*`, `KUBE-FW-*`, `KUBE-SVL-*`, `KUBE-MARK-MASQ`, `KUBE-POSTROUTING` and
//! the filter table stay as they are, but for what a tree makes of them.
//!
//! The way back works for the same reason, and because every chain that is ours alone in the nat table has a name that
//! kube-proxy takes for a stale one of its own and sweeps away.
//!
//! # Endpoints without chains
//!
//! kube-proxy has a chain of two rules for each endpoint of each service: the first marks what the endpoint sends to
//! itself for masquerade (a *hairpin*), the second is the DNAT. In nf_tables each added rule makes the kernel look at all
//! chains and rules of the table again, so a hundred thousand chains that do nothing are not free.
//!
//! An endpoint has a chain here if it can do something (`plan/iptables/hairpin`):
//!
//! * its service has client IP affinity: the chain remembers the client;
//! * the endpoint is on this node, or nobody knows where it is: it may be its own client;
//! * it is on another node, and its own packets may come by unmarked: an external policy `Local`, with a detector that
//!   takes every pod of the cluster for a local one (`--cluster-cidr`).
//!
//! All others are reached by a DNAT in the rule that chooses them. A service with ten endpoints on other nodes is one
//! chain of eleven rules, and one rule that leads there, where kube-proxy has 11 chains and 32 rules.
//!
//! What becomes of packets is what kube-proxy makes of them:
//!
//! | client and service | where it is masqueraded |
//! |---|---|
//! | an endpoint on this node to itself, by cluster IP | in its chain, as ever |
//! | the same by node port, external IP or VIP | marked in `KUBE-EXT-*`, or in its chain if the policy is `Local` |
//! | an endpoint in the host's network of this node | it is on this node: the same |
//! | an endpoint on another node, from outside to a node port here, policy `Cluster` | marked in `KUBE-EXT-*` |
//! | the same, policy `Local` | `KUBE-SVL-*` leads to this node's endpoints only; if the detector takes it for a local pod, in its chain, which it then has |
//! | an endpoint on another node, to a cluster IP | on its own node: it does not come here |
//! | an endpoint that terminates and is still used | as any other |
//! | services with affinity | all endpoints have chains |
//! | an endpoint without a node's name, or a node that the API server does not know by our name | every such endpoint has a chain |
//!
//! Why not one masquerade rule in POSTROUTING for what has become its own destination, and no chains at all? The mark
//! does more than masquerade: KUBE-FORWARD accepts what is marked, whatever an administrator's or a network policy's
//! rules behind it say. A packet that is only masqueraded at its end must get there first. And such rules would be
//! tested for each new connection, while an endpoint's chain is met by what goes to the endpoint alone.
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
//! Up to 32 endpoints a service's chain chooses among them as kube-proxy's does. Above, it chooses a group with the
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
//!
//! A jump from a built-in chain is ours if it leads to a chain of ours, has a comment as kube-proxy or weir gives it, and
//! matches nothing but new connections. `weir cleanup` ([`cmd::cleanup`](crate::cmd::cleanup)) removes everything that is
//! ours, in both kinds of tables and all modes, with the tables `kube-proxy` of nftables and the accounting objects that
//! kube-proxy makes and leaves. What a rule of somebody else leads to stays as it is, with everything that it needs
//! ([`plan::removal`](crate::plan::removal)): the rule is named, and the exit code is 1.
