//! Feature gates.

use super::{both, of_flags, typed};
use crate::config::{FeatureGates, Stage, complete};

#[test]
fn all_that_are_known_can_be_set_to_what_they_are() {
    let known = FeatureGates::known();
    assert_eq!(known.len(), 244);
    assert!(known.is_sorted_by_key(|gate| gate.name));
    let set = known.iter().map(|gate| (gate.name.to_owned(), gate.default)).collect();
    let gates = FeatureGates::new(&set).unwrap();
    for gate in known {
        assert_eq!(gates.is_enabled(gate.name), gate.default, "{}", gate.name);
        assert!(!gate.locked || gate.stage == Stage::Ga || gate.stage == Stage::Deprecated, "{}", gate.name);
    }
}

/// Contract 1.16.
#[test]
fn gates_with_an_effect() {
    let gates = FeatureGates::default();
    for (name, expected) in [
        ("AllowServiceExternalIPs", true),
        ("PreferSameTrafficDistribution", true),
        ("MultiCIDRServiceAllocator", true),
        ("ComponentFlagz", true),
        ("ComponentStatusz", true),
        ("NativeHistograms", false),
        ("ContextualLogging", true),
        ("LoggingAlphaOptions", false),
        ("LoggingBetaOptions", true),
        ("Nonsense", false),
    ] {
        assert_eq!(gates.is_enabled(name), expected, "{name}");
    }
    let all = both(&["--feature-gates=AllAlpha=true,AllBeta=false,ComponentFlagz=true"], None).unwrap().gates;
    assert!(all.is_enabled("NativeHistograms") && all.is_enabled("ComponentFlagz"));
    assert!(!all.is_enabled("ComponentStatusz") && all.is_enabled("AllowServiceExternalIPs"));
}

#[test]
fn what_cannot_be_set_is_said_in_words_of_kube_proxy() {
    for (flag, expected) in [
        ("Foo=true", "unrecognized feature gate: Foo"),
        (
            "MultiCIDRServiceAllocator=false",
            "cannot set feature gate MultiCIDRServiceAllocator to false, feature is locked to true",
        ),
        (
            "GitRepoVolumeDriver=true,Foo=false",
            "[unrecognized feature gate: Foo, cannot set feature gate GitRepoVolumeDriver to true, feature is locked to \
             false]",
        ),
    ] {
        assert_eq!(both(&["--feature-gates", flag], None).unwrap_err(), expected);
    }
    assert_eq!(both(&[], Some("featureGates: {Foo: true}\n")).unwrap_err(), "unrecognized feature gate: Foo");
    // Those of the command line do not count beside a file.
    assert!(both(&["--feature-gates=Foo=true"], Some("")).is_ok());
}

#[test]
fn what_will_be_gone_is_a_warning() {
    let warnings =
        complete(&typed(&["--feature-gates=AllowServiceExternalIPs=false,AllAlpha=true"]), None).unwrap().warnings;
    assert_eq!(
        warnings,
        ["setting GA feature gate AllowServiceExternalIPs=false; it will be removed in a future release"]
    );
    assert_eq!(of_flags(&[]).feature_gates.len(), 0);
}
