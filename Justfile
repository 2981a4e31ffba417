# Every task that a person runs. `just` alone lists them.

_list:
    @just --list

# Run the whole crew on this host, with its data in ./nodecrew-data
run *FLAGS:
    cargo run --release -p nodecrew -- up {{FLAGS}}

# Everything that needs nothing but a Rust toolchain
test:
    cargo test --workspace

# Format and lints, warnings as errors
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# Tests with other people's programs: nc of busybox and OpenBSD, curl, logger, every reader of archives, strace …
test-clients:
    cargo test -p logd --features client-tests --test it real_clients
    cargo test -p logsend --features client-tests --test it each_line_is_exactly_one_write
    cargo test -p logcd --features client-tests --test readers
    cargo test -p queued --features client-tests --test it walkthroughs
    cargo test -p queuectl --features client-tests --test it a_terminal

# queued against its OpenAPI file: thousands of made-up requests
test-openapi:
    python3 -m venv target/schemathesis
    target/schemathesis/bin/pip install --quiet 'schemathesis>=4.32,<5'
    SCHEMATHESIS={{justfile_directory()}}/target/schemathesis/bin/schemathesis cargo test -p queued --features openapi-tests --test it schemathesis

# Tests that mount file systems or make namespaces: as root
test-root:
    cargo test -p logd --features root-tests --test it root_
    cargo test -p logsend --features root-tests --test it as_process_1
    cargo test -p logcd --features root-tests --test root_filesystems

# An agent beside its limits and peers, as ratios: just bench logd --quick
bench agent *FLAGS:
    cargo build --release -p {{agent}} -p bench
    ./target/release/bench {{agent}} {{FLAGS}}

# Fuzz one parser: just fuzz logd framing 60
fuzz agent target seconds="60":
    cd agents/{{agent}}/fuzz && cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}}

# Licences, sources and bans of what goes into the binaries
deny:
    cargo deny check bans licenses sources

# What the landing runs
ci:
    .ci/run
