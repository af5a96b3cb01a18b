pub fn is_owned(_table: super::Table, name: &str) -> bool {
    name.starts_with("KUBE-S")
}
