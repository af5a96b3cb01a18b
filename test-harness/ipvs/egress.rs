//! Node egress in a kernel with IPVS: in IPVS mode, and beside it in iptables mode.

use weir::cmd::options::ProxyMode::Ipvs;
use weir::kernel::xtables::variant::Variant;

use super::shared::egress::on_and_off;
use super::shared::world::Setup;

pub fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("in_ipvs_mode_nft", || on_and_off(Setup { variant: Variant::Nft, mode: Ipvs })),
        ("in_ipvs_mode_legacy", || on_and_off(Setup { variant: Variant::Legacy, mode: Ipvs })),
        ("in_iptables_mode_nft", || on_and_off(Variant::Nft.into())),
    ]
}
