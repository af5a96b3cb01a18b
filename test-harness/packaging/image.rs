//! `deploy/Containerfile`.

use crate::text;

/// Instructions, with continued lines joined and without comments.
fn instructions() -> Vec<String> {
    let text = text("deploy/Containerfile");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    lines
        .join("\n")
        .replace("\\\n", " ")
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// Of the last stage.
fn last_stage() -> Vec<String> {
    let all = instructions();
    let from = all.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    all[from..].to_vec()
}

/// What kubeadm's DaemonSet starts is there, and is the program.
#[test]
fn it_has_the_program_under_both_names() {
    let all = instructions().join("\n");
    assert!(all.contains("install -D -m 0755 target/release/weir /out/usr/local/bin/weir"), "{all}");
    assert!(all.contains("RUN ln -s weir /out/usr/local/bin/kube-proxy"), "{all}");
    let last = last_stage();
    assert!(last.contains(&"COPY --from=build /out/ /".to_owned()), "{last:?}");
    assert!(last.contains(&r#"ENTRYPOINT ["/usr/local/bin/weir"]"#.to_owned()), "{last:?}");
}

/// The base has libc, which is all that the program needs; the other one has the tools of legacy tables as well.
#[test]
fn its_bases_are_those_that_it_says() {
    let all = instructions();
    let bases: Vec<&str> = all.iter().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert!(bases[0].starts_with("docker.io/library/rust:") && bases[0].ends_with(" AS build"), "{bases:?}");
    assert_eq!(bases.last(), Some(&"${BASE}"));
    assert!(all.contains(&"ARG BASE=netlink".to_owned()));
    for name in ["netlink", "legacy"] {
        assert!(bases.iter().any(|base| base.ends_with(&format!(" AS {name}"))), "{name}");
    }
    assert!(all.iter().any(|line| line.starts_with("RUN apt-get") && line.contains(" iptables ")), "{all:?}");
}

/// The compiler of the image is new enough.
#[test]
fn its_compiler_can_build_the_program() {
    let all = instructions();
    let number = |text: &str| text.split('.').map(|part| part.parse::<u32>().unwrap()).collect::<Vec<_>>();
    let image = all.iter().find_map(|line| line.strip_prefix("FROM docker.io/library/rust:")).unwrap();
    let manifest = text("Cargo.toml");
    let needed = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(number(image.split('-').next().unwrap()) >= number(needed), "{image} {needed}");
}
