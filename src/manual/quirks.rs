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
//! | In a user namespace a socket's buffer may not be raised: a send of more than some 200 kB is refused (`EMSGSIZE`), and `iptables-nft-restore` cannot send a `COMMIT` of more than about 600 rules | `kernel/xtables/nft/write` | by netlink, what does not fit is cut into several transactions; with `--iptables-driver restore`, large changes are refused and bisected |
//! | On nf_tables any added rule has the kernel look at all rules that are reachable in its table, once for each built-in chain that leads there; a deletion does not | `plan/iptables/hairpin` | fewer chains and rules: only endpoints that can be their own clients have chains |
//! | The rules of a whole table of nf_tables in one list take quadratic time (320,000 rules: 33 s) | `kernel/xtables/nft/read` | rules are read chain by chain (0.6 s) |
//! | A transaction of nf_tables that fails in validation is tried again with a validation for each message | `kernel/xtables/order`, `plan/iptables/dispatch` | loops and too deep nesting are never sent |
//! | What a transaction of nf_tables took out is destroyed behind it, and the next rule with an extension of x_tables waits for that, some 10 ms | `benches/kernel` | nothing: changes that follow each other at once are gathered, a lone one does not meet it |
//! | Creating a base chain that is there with a policy resets the policy | `kernel/xtables/nft/wire` | no policy is ever sent |
//! | The generation of nf_tables skips 0 | `kernel/xtables/nft/write` | so does our count |
//! | iptables-nft since 1.8.9 writes `! --sport A ! --dport B` as "not both", and prints it as "neither" | `kernel/xtables/nft/expression` | such a rule is nobody's of ours: it is told verbatim |
//! | `iptables -E` announces only the new name of a chain | `kernel/watch` | a chain that was renamed away is found by the periodic compare |
//! | An edited legacy rule of the same size changes no number that is cheap to ask for | `kernel/watch/legacy` | it is found by the periodic compare |
//! | The kernel's list of virtual servers counts places over all network namespaces: while another namespace writes, entries are missing or there twice, and nothing says so | `kernel/ipvs/apply` | what is there is set and what is gone is made: a wrong picture costs a message, and the next compare is right |
//! | A list of the real servers of a virtual server that is not there is empty, not an error | `kernel/ipvs/driver` | it is asked for by name then |
//! | IPVS refuses any real server (`EINVAL`) in a namespace that never had an IPv4 address | `test-harness/ipvs` | tests set `lo` up |
//! | `sh`, `mh` and `dh` choose real servers of weight 0, and then refuse | `plan/ipvs/claim`, `plan/ipvs/drain` | the fallback flag for the first two; with `dh` nothing drains |
//! | Adding n addresses to one device takes n² time in the kernel (10,000: 2.1 s IPv4, 3.3 s IPv6), removing them one by one up to 27 s; deleting the device 0.1 s | `plan/ipvs/compare` | what is retired goes with its device |
//! | IPVS knows a reply by client and endpoint alone: one to a connection that rules led to the same endpoint, from the same port of the client within ten seconds of an old connection of IPVS, revives that one as `SYN_SENT` for two minutes; the new one goes on | `plan/ipvs/drain` | what drains may wait until its deadline |
//! | With an IPv4 address, the kernel deletes only the local route that has it as its preferred source | `kernel/link/driver` | a route with another source is deleted before its address |
//! | IPv6 takes no route by a device that is down, not even a local one, and none that comes before the kernel's own | `kernel/link/wire` | a local route with another source goes by `lo`, and the kernel's is deleted |
//! | A rule with `-m physdev` loads `br_netfilter`, which makes the kernel filter all bridged packets | `plan/ipvs/base` | there is none |
//! | `/proc/sys/net/ipv4/vs` is there only since `ip_vs` is loaded | `cmd/proxy/mode` | parameters are looked at after IPVS was opened |
//! | A `set` match of x_tables names its set by an index, which belongs to the name and not to the entries | `kernel/xtables/nft/sets` | asked for when a rule is written; `ipset swap` needs no rule changed |
//! | nf_tables lets go of a set some time after the rule that named it | `kernel/ipset/driver` | destroying is tried again for two seconds |
//! | `hash:net` takes no `/0` | `cmd/settle/egress` | two halves |
