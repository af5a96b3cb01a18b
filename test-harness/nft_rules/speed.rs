//! How long a rule takes. `cargo test --release --test nft_rules -- --ignored --nocapture`
