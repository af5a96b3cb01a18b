//! Quirks of kernels and tools, each with its home in the code.
//!
//! | quirk | where | what follows |
//! |---|---|---|
//! | The kernel follows 16 nested chains, and refuses a rule that would need more (`EMLINK`) | `plan/iptables/dispatch` | the trees' depth is bounded for any set of addresses |
//! | `iptables-nft-restore` is quadratic in what one `COMMIT` holds: 110,000 chains with 320,000 rules take 17 s of CPU in sections of 250 chains, 49 s in sections of 1,000, 130 s in sections of 3,000 | `kernel/xtables/order` | large changes are cut into sections, chains that are jumped to first |
//! | A legacy `COMMIT` reads and replaces the whole table whatever it changes | `kernel/xtables/order` | one `COMMIT` for a table |
//! | A random match keeps its probability as a multiple of 2^-31, kube-proxy writes ten decimals | `plan/iptables/balance` | the ten decimals are imitated to the bit where kube-proxy writes the same rule |
//! | `xt_recent` keeps 100 addresses in a list | `plan/iptables/balance` | affinity is per endpoint, as kube-proxy has it |
//! | `:CHAIN - [0:0]` in restore input creates or flushes; for a built-in chain it would set the policy | `kernel/xtables/order` | built-in chains and the kubelet's are never declared |
//! | A locally made packet has no input interface: a negated `-i` matches it | `model/oracle` | with an interface detector, the node's own traffic counts as not local |
//! | ctnetlink `DELETE` without tuple or filter empties the table | `kernel/conntrack` | such a message cannot be built |
//! | ctnetlink `DELETE` with a filter works on new kernels and is refused by 6.1 | `kernel/conntrack` | what is stale is deleted by tuple and id |
//! | A ctnetlink list filtered by an IPv6 address leaves out just the entries that have it (seen on 6.18) | `kernel/conntrack/codec` | the kernel filters IPv6 by port only, the reader by address |
//! | In a user namespace `iptables-nft-restore` cannot send a `COMMIT` of more than some 200 kB, about 600 rules (`Message too long`): it may not raise its socket's buffer | none yet | a rootless node with many services wants `--iptables-variant legacy` |
