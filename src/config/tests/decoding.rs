//! Files that are read, doubted or refused.

use super::{HEAD, both, of_file};
use crate::config::{DecodeError, decode};

fn refused(text: &str) -> String {
    decode(text).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn q7_and_q8_unknown_and_duplicate_fields_are_warnings() {
    let completion =
        both(&[], Some("foo: 1\nbar: {x: 2}\niptables: {baz: 1}\nmode: ipvs\nmode: iptables\nother: null\n")).unwrap();
    let expected = [
        "config.conf:3:6: unknown field \"foo\"",
        "config.conf:4:6: unknown field \"bar\"",
        "config.conf:5:17: unknown field \"iptables.baz\"",
        "config.conf:7:7: duplicate field \"mode\"",
        "config.conf:8:8: unknown field \"other\"",
    ];
    assert_eq!(completion.warnings, expected);
    assert_eq!(completion.config.mode, "iptables");
}

#[test]
fn json_is_read_as_well() {
    let text = "{\"apiVersion\": \"kubeproxy.config.k8s.io/v1alpha1\", \"kind\": \"KubeProxyConfiguration\",\n \"foo\": 1, \
                \"mode\": \"a\", \"mode\": \"ipvs\", \"hostnameOverride\": \"\\ud83d\\ude00\"}";
    let (document, warnings) = decode(text).unwrap();
    assert_eq!(document.mode.as_deref(), Some("ipvs"));
    assert_eq!(document.hostname_override.as_deref(), Some("\u{1f600}"));
    assert_eq!(warnings, ["2:9: unknown field \"foo\"", "2:33: duplicate field \"mode\""]);
    let flow = "{apiVersion: kubeproxy.config.k8s.io/v1alpha1, kind: KubeProxyConfiguration, mode: ipvs}";
    assert_eq!(decode(flow).unwrap().0.mode.as_deref(), Some("ipvs"));
    assert!(refused("{\"kind\": ").contains("not valid JSON"));
}

/// Q9, Q10, Q11 and others: the place, the field, the value.
#[test]
fn q9_to_q11_what_is_no_configuration() {
    let number = "a whole number from -2147483648 to 2147483647";
    let text = "a text (in quotes, if it looks like something else)";
    for (body, expected) in [
        ("bindAddress: 1\n", format!("3:14: bindAddress: expected {text}, found the number 1")),
        ("mode: on\n", format!("3:7: mode: expected {text}, found the boolean true")),
        ("oomScoreAdj: \"5\"\n", format!("3:14: oomScoreAdj: expected {number}, found the text \"5\"")),
        ("oomScoreAdj: 1.5\n", format!("3:14: oomScoreAdj: expected {number}, found the number 1.5")),
        ("oomScoreAdj: 5000000000\n", format!("3:14: oomScoreAdj: expected {number}, found the number 5000000000")),
        (
            "iptables: {syncPeriod: x}\n",
            "3:24: iptables.syncPeriod: time: invalid duration \"x\": expected a number with a unit such as 30s, 250ms, \
             1m30s or 1h"
                .into(),
        ),
        ("iptables: {syncPeriod: 5}\n", format!("3:24: iptables.syncPeriod: expected {text}, found the number 5")),
        (
            "logging: {verbosity: -1}\n",
            "3:22: logging.verbosity: expected a whole number from 0 to 4294967295, found the number -1".into(),
        ),
        (
            "logging: {flushFrequency: x}\n",
            "3:27: logging.flushFrequency: time: invalid duration \"x\"".into(),
        ),
        (
            "bindAddressHardFail: \"true\"\n",
            "3:22: bindAddressHardFail: expected true or false, found the text \"true\"".into(),
        ),
        (
            "featureGates: {AllAlpha: 1}\n",
            "3:26: featureGates.AllAlpha: expected true or false, found the number 1".into(),
        ),
        ("nodePortAddresses: primary\n", "3:20: nodePortAddresses: expected a list, found the text \"primary\"".into()),
        ("iptables: []\n", "3:11: iptables: expected a map, found a list".into()),
        ("clusterCIDR: [a]\n", "3:14: clusterCIDR: expected a text, found a list".into()),
        ("bindAddress: ::\n", "3:15: not valid YAML: mapping values are not allowed in this context (is the indentation right?)".into()),
        ("foo: [\n", "3:6: not valid YAML: unclosed bracket '['".into()),
    ] {
        assert_eq!(refused(&format!("{HEAD}{body}")), expected, "{body}");
    }
    let expected = "expected `apiVersion: kubeproxy.config.k8s.io/v1alpha1` and `kind: KubeProxyConfiguration`";
    for (text, found) in [
        ("kind: Foo\n", "1:7: Object 'apiVersion' is missing"),
        ("apiVersion: v1\n", "1:13: Object 'Kind' is missing"),
        ("apiVersion: v1\nkind: Pod\n", "2:7: no kind \"Pod\" is registered for version \"v1\""),
        (
            "apiVersion: kubeproxy.config.k8s.io/v1beta1\nkind: KubeProxyConfiguration\n",
            "2:7: no kind \"KubeProxyConfiguration\" is registered for version \"kubeproxy.config.k8s.io/v1beta1\"",
        ),
    ] {
        assert_eq!(refused(text), format!("{found}: {expected}"));
    }
    assert_eq!(refused("hello\n"), format!("1:1: {expected}, found the text \"hello\""));
    assert!(refused("").starts_with("Object 'Kind' is missing"));
    let error = both(&[], Some("mode: 3\n")).unwrap_err();
    assert_eq!(error, format!("failed to decode config.conf:3:7: mode: expected {text}, found the number 3"));
    let DecodeError { place, .. } = decode("").unwrap_err();
    assert_eq!(place, None);
}

#[test]
fn what_go_reads() {
    assert!(of_file("bindAddressHardFail: yes\n").bind_address_hard_fail);
    assert_eq!(of_file("oomScoreAdj: 010\n").oom_score_adj, 8);
    assert_eq!(of_file("oomScoreAdj: 0x10\n").oom_score_adj, 16);
    assert_eq!(of_file("oomScoreAdj: 1.0\n").oom_score_adj, 1);
    assert_eq!(of_file("clientConnection: {burst: 1e1, qps: 7}\n").client_connection.burst, 10);
    assert_eq!(of_file("logging: {flushFrequency: 5}\n").logging.flush_frequency.duration.nanos(), 5);
    assert_eq!(of_file("mode: null\niptables: null\nnodePortAddresses: ~\n"), of_file(""));
    // Only the first document counts.
    assert_eq!(of_file(&format!("mode: ipvs\n---\n{HEAD}mode: nftables\n")).mode, "ipvs");
}
