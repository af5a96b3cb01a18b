#!/bin/sh
# Feeds shapes.v4.rules and shapes.v6.rules to the installed iptables in a private network namespace and keeps what
# the save tools print, each with the command line in its first line. Needs root and python3.
set -eu
cd "$(dirname "$0")"
if [ "${1:-}" != inside ]; then
    exec unshare --net -- "$0" inside
fi
python3 - <<'END'
# The two accounting objects that rules refer to: NFNL_MSG_ACCT_NEW of uapi linux/netfilter/nfnetlink_acct.h.
import socket, struct
link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
link.bind((0, 0))
for name in (b"ct_state_invalid_dropped_pkts\0", b"localhost_nps_accepted_pkts\0"):
    attribute = struct.pack("HH", 4 + len(name), 1) + name + b"\0" * (-len(name) % 4)
    body = struct.pack("BBH", 0, 0, 0) + attribute
    link.send(struct.pack("IHHII", 16 + len(body), 7 << 8, 0x401 | 4, 1, 0) + body)
    assert struct.unpack("i", link.recv(4096)[16:20]) == (0,), name
END
for variant in nft legacy; do
    for family in 4 6; do
        tool=$([ $family = 4 ] && echo iptables || echo ip6tables)
        version=$($tool-$variant --version | sed 's/.* v\([0-9.]*\).*/\1/')
        $tool-$variant-restore <shapes.v$family.rules
        for options in "" --counters; do
            output=$tool-$variant-$version$options.save
            echo "# $tool-$variant-restore <shapes.v$family.rules; $tool-$variant-save $options" >"$output"
            $tool-$variant-save $options 2>/dev/null >>"$output"
        done
    done
done
