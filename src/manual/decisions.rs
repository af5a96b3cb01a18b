//! What was decided, when, and what it was weighed against.
//!
//! **2026-11: the engine keeps service ports, not rules.** Planning both sides of a move costs some microseconds;
//! holding 320,000 typed rules for 100,000 endpoints costs more memory than everything else together.
//!
//! **2026-11: a changed chain is given whole, and written as little as can be.** A [`ChainChange`](crate::kernel::xtables::ChainChange)
//! says all rules that a chain is to have. Through `iptables-restore` it is written whole, which is right whatever was
//! there. By netlink the chain is read first, and the rules that differ are replaced, added and deleted by their handles.
//! Remembering handles was weighed: it saves some 20 µs a chain, holds 8 bytes a rule, and is wrong as soon as somebody
//! else has touched the chain.
//!
//! **2026-11: nf_tables by netlink, in the form that every iptables reads.** iptables-nft is quadratic in large changes,
//! may not be installed, and costs a process. Newer versions write ports and marks as native expressions, which 1.8.7 and
//! older read wrongly without a word; what is written here is the form that 1.8.3 to 1.8.13 all print as their own.
//! `iptables-restore` stays for legacy tables (one process a family and change, one swap of the table) and as a
//! fallback. The seam is [`Xtables`](crate::kernel::xtables::Xtables): observe chains, apply changes.
//!
//! **2026-11: a listener, not a poll.** Polling the generation of nf_tables costs nothing and tells nothing: neither which
//! chains were changed nor by whom, so every commit of a network plugin would mean a look at everything. A listener is
//! told both. While one listens, the kernel takes some 3 µs more for each message of anybody's commit (1,000 rules 7.6 ms
//! and 10.3 ms, 100,000 rules 1.0 s and 1.5 s); so it leaves the group during our own large writes. The generation is
//! looked at once a second, for what was missed.
//!
//! **2026-11: the whole kernel is compared, not a canary.** kube-proxy notices only when all its tables were flushed.
//! Comparing what the kernel holds with the plan finds an edited rule as well, and writes just that chain.
//! The canary chains are still made: other tools look for them.
//!
//! **2026-11: a tree of prefixes, not an ipset.** A set would be matched faster still, but cannot lead to a chain for each
//! member; it would take a second lookup, and a kernel with ipset.
//!
//! **2026-11: endpoints on other nodes have no chains.** Every rule that is added makes nf_tables look at all that is
//! reachable in the table, so fewer chains and rules make each change cheaper. Masquerading hairpins in POSTROUTING would
//! have spared the rest of the chains too, and was not chosen: what is not marked on its way is not accepted in
//! KUBE-FORWARD, and every new connection would have tested those rules. Where it matters for an endpoint whether it is
//! its own client is in [`rules`](super::rules), *Endpoints without chains*.
//!
//! **2026-11: protobuf, read by hand.** Reading the JSON of 100,000 endpoints took a quarter of the CPU of a start, and
//! that of a change as much as all that follows it. Some sixty fields of four kinds are read; generated types would hold
//! all the others as well, and copy them. JSON stays the fallback, and what a field means is in one place for both.
//!
//! **2026-11: the gap between changes follows what they cost.** kube-proxy waits a second after each run, too long where a
//! change takes a millisecond, and too short where it takes a second and more. Here the default minimum is 0, and three
//! times what the last changes took passes before the next, at most five seconds: one change goes to the kernel at once,
//! and a storm keeps it busy for a quarter of the time. A minimum that somebody configures is kept beside that. Full
//! compares do not count: they are rare, and would hold changes for seconds.
//!
//! **2026-11: what somebody changed is compared, not everything.** Where the kernel tells which chains somebody else
//! wrote to, those are read, compared and repaired. The full compare stays, on its schedule, for what nobody told.
//!
//! **2026-11: DNS first, in a change of its own.** At a cold start, or after a flush, whoever waits for any service waits
//! for DNS or the API server first. A repair that finds no way to services therefore begins with these, before everything
//! else is even planned. Where ways exist there is one stage: a second one would only rewrite what serves.
//!
//! **2026-11: constant rules in IPVS mode.** kube-proxy writes some rules only where a set has entries. A lookup in an empty
//! set costs nanoseconds; a rule that comes and goes costs a transaction, and an order to get wrong.
//!
//! **2026-11: a record of our virtual servers.** They could have been marked by a flag of their own (the kernel has one that
//! no scheduler reads), which `ipvsadm` would print on every line. A set of their addresses is seen by whoever looks for it,
//! and leaves the virtual servers as kube-proxy makes them.
//!
//! **2026-11: the deadline of a drain is a threshold.** A file would be lost with the container, an annotation would need
//! a write to the API. The upper threshold of a real server has no meaning at weight 0, and the kernel keeps it.
//!
//! **2026-11: one list of endpoints for a virtual server.** With externalTrafficPolicy Local, clients from outside and those
//! of the cluster should have different lists. That would take a firewall mark and a rule for each service. Local endpoints
//! where there are some, all of them and outsiders kept away where there are none, serves everyone whom iptables mode serves.
//!
//! **2026-11: our own code for IPVS and ipset.** The crates that exist know neither flags nor thresholds of virtual servers,
//! or run one request for a round trip. Both families are a few hundred lines over the transport that nf_tables has already.
//!
//! **2026-11-21: kube-proxy's configuration as texts, in three steps.** What was typed, what it means with file and defaults
//! ([`config`](crate::config), pure), and what it means on this host ([`cmd::settle`](crate::cmd::settle)). The middle form
//! keeps values as they were given, also after validation, because `--write-config-to` and `/configz` show them so, letter
//! by letter as kube-proxy 1.36 writes them. Types of their own for each field would have refused some mistakes before
//! others were seen; kube-proxy tells all at once, and in its words, to which weir adds the flags or fields to look at.
//! A file is named with line and column.
//!
//! **2026-11-21: a minimum that nobody set is 0, and shown as kube-proxy's second.** Whether somebody set it is kept beside
//! the value: the flag of the mode, or a value other than zero in its section of the file (where kube-proxy takes zero for
//! unset, and so does kubeadm's ConfigMap). What is written and served is kube-proxy's shape with its default, so a file
//! that was written and is read again sets a second. A sync period below that second is therefore fine alone, where
//! kube-proxy refuses it.
//!
//! **2026-11-21: where weir takes more than kube-proxy.** `--cluster-cidr=` is none instead of an empty network that is
//! refused; blanks around the elements of lists are no part of them; null is unset for every field, durations included;
//! gates are not checked against others that they need, as almost none means anything to a proxy. Where it takes less: the
//! mode `nftables`, which is valid and refused when it would be used; names of interfaces and timeouts that the kernel would
//! not take; a scheduler's name that is none. `--kube-api-qps` and its like are accepted and say in the help that they
//! have no effect.
//!
//! **2026-11-21: flags without a field count beside a file.** kube-proxy ignores its flags beside `--config`, but for logs,
//! `--hostname-override` and `--master`. weir's own have no place in its document: a second file, or fields that kube-proxy
//! would warn of, would have kept one ConfigMap from serving both. `--manifests` that was typed is meant instead of the
//! kubeconfig that a file names, so that a cluster's file can be tried on a folder.
//!
//! **2026-11-21: YAML and JSON are read in one place.** [`text`](crate::text) was part of the manifests' source; places of
//! values, types and duplicates matter for configuration as well. Go's decoders are laxer (`yes` is a boolean, `010` is
//! eight, of two equal keys the last counts), which is a habit to ask for, not a second reader.
//!
//! **2026-11: a deleted Node is not eligible.** kube-proxy goes on answering `/healthz` by the last Node object that it saw, so
//! a node that was taken out of the cluster gets traffic until its machine is gone, with rules that follow a cluster to which
//! it does not belong. Here `/healthz` is 503 from the deletion until the Node is back; `/livez` is not: a restart would not
//! help. Rules stay as they are.
//!
//! **2026-11: what else is wrong is told, not answered with 503.** An API server that is away is away for all nodes, and load
//! balancers that leave all nodes at once are worse than rules that are a few minutes old. It stands in the body of
//! `/healthz` and `/livez`, under a key that kube-proxy does not have, `reasons`; a body without reasons is kube-proxy's, to
//! the byte.
//!
//! **2026-11: health check node ports follow addresses.** With `nodePortAddresses`, kube-proxy reads the host's addresses once,
//! and a node port answers on a new one while its health check does not. Here listeners come and go with the addresses, and
//! what cannot be bound is tried again every five seconds instead of at the next change. At the start it is still all or
//! none: half a health check would have load balancers see two truths.
//!
//! **2026-11: nf_conntrack_max is never lowered.** kube-proxy writes its number whatever is there. A node where somebody has
//! asked for more keeps it; a minimum above a million counts; and a timeout of less than a second is one second. Files
//! below `/etc/sysctl.d` do not keep these parameters from being written, as they do for those of IPVS mode: here the
//! configuration names them, and nodes that follow kube-proxy's defaults would change. Each such case is a warning.
//!
//! **2026-11: events are best effort.** One task, a bounded queue, one request at a time. What repeats is counted by all
//! that an event says, its note included, so that two refusals of one service are two events. Nothing waits for it.
//!
//! **2026-11: the Node is waited for where rules need it.** detectLocalMode NodeCIDR has no right rule without pod networks,
//! and `primary` node ports none without an address: then the wait is kube-proxy's, five minutes and half a minute, with its
//! errors, and nothing is written before. Elsewhere kube-proxy waits half a minute all the same; here services are served at
//! once, and rules follow the Node when it comes.
//!
//! **2026-11: a changed configuration starts the node anew, in the same process.** kube-proxy exits, and only at some kinds of
//! change. One way for all settings, the one that every start takes, is easier to be sure of than one for each; it costs a
//! list of the cluster's objects, as a restart would. Rules stay, ports stay open, counters go on. What cannot start is
//! given up for the configuration before.
