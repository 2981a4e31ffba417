# Every task that a person runs; `just` alone lists them.

_list:
    @just --list

# Builds tests and binaries with the same crates and features, so that nothing is compiled twice.
binaries := "cargo build --workspace --tests --bins"

# Run the whole crew on this host, with its data in ./nodecrew-data
run *FLAGS:
    cargo run --release -p nodecrew -- up {{FLAGS}}

# Run all tests that need only a Rust toolchain
test:
    cargo test --workspace

# Check format, lints and the code's documentation; warnings are errors
lint:
    cargo fmt --all --check
    cargo fmt --manifest-path agents/toolbox/Cargo.toml --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --document-private-items

# Run the tests that need the programs that .ci/run installs; WORDS selects tests by name
test-programs *WORDS:
    test -x target/schemathesis/bin/schemathesis || (python3 -m venv target/schemathesis && target/schemathesis/bin/pip install --quiet 'schemathesis==4.32.5')
    PATH=$PWD/target/schemathesis/bin:$PATH cargo test --workspace --tests -- --ignored --skip root {{WORDS}}

# Run the tests that need root: file systems, namespaces, the README's commands
test-root:
    cargo test --workspace --tests -- --ignored root

# Printed seeds repeat an attack on container logs: LOGCD_TEST_SEEDS and LOGCD_TEST_ROUNDS.
# Test power loss, and a fault or SIGKILL at each system call: as root; ROUNDS=200 for all calls
attacks *FLAGS:
    {{binaries}}
    cargo test --workspace --features attacks/root-tests --test attacks -- --test-threads 4 {{FLAGS}}
    [ -n "{{FLAGS}}" ] || LOGCD_TEST_SEEDS="${LOGCD_TEST_SEEDS:-random}" LOGCD_TEST_ROUNDS="${LOGCD_TEST_ROUNDS:-2000}" cargo test --workspace --test it no_line_is_lost_or_repeated -- --nocapture

# Plots go to target/bench/index.html. The variable BINARY names another binary to measure.
# Measure an agent as ratios to its limits and peers: just bench logd --quick
bench agent *FLAGS:
    tests/bench/peers
    cargo build --release -p bench
    [ -n "${BINARY:-}" ] || cargo build --profile dist -p {{agent}}
    ./target/release/bench {{agent}} --{{agent}} "${BINARY:-target/dist/{{agent}}}" {{FLAGS}}

# Needs valgrind. Other load on the machine does not change the result.
# To measure time instead: cargo bench -p hot --features clock
# Count the instructions of the hot paths and compare them with the record; --note updates it
instructions *FLAGS:
    {{binaries}}
    ./target/debug/hot {{FLAGS}}

# Run the agents under load for some minutes: memory, descriptors and threads must be flat
soak minutes="20":
    cargo build --release -p nodecrew
    tests/soak {{minutes}}

# Fuzz one parser, and grow its corpus: just fuzz framing 1800 (needs a C++ compiler)
fuzz name seconds="60":
    tests/inputs/fuzz/run {{name}} {{seconds}}

# Build every image from what cargo compiles on this host; nothing is pulled
images profile="dist":
    images/build {{profile}}

# Push every image, one index for all machines: just push ghcr.io/me v1 latest
push registry *tags:
    images/push {{registry}} {{tags}}

# Load every image into kind, k3d, minikube, docker or podman: just load kind my-cluster
load where *cluster:
    images/load {{where}} {{cluster}}

# List the components of each image, as CycloneDX files in target/sbom
sbom:
    images/sbom target/sbom

# Build the Debian package in target/deb
deb profile="dist":
    packaging/deb {{profile}}

# Build the RPM in target/rpm
rpm profile="dist":
    packaging/rpm {{profile}}

# Make all that a release publishes in target/release-VERSION, with --dry-run; the workflow publishes it, too
release *FLAGS:
    packaging/release {{FLAGS}}

# Package the Helm chart in target/chart, and print its path
chart:
    k8s/helm package target/chart

# Compare the images' toolbox with the programs that it replaces
test-toolbox:
    #!/usr/bin/env bash
    set -euo pipefail
    . images/static
    # Built without the images' optimization for size, which takes minutes and does not change behaviour.
    cargo clippy "${toolbox[@]}" --all-targets -- -D warnings
    cargo test "${toolbox[@]}"

# Test the images with podman and a real registry: as root (profile dist takes far longer)
test-containers profile="release":
    images/build {{profile}}
    IMAGE_PROFILE={{profile}} cargo test --workspace --features containers/container-tests --test containers

# Test the packages on a Debian with a real systemd, in a container: as root
test-package:
    packaging/test

# The images must be on the cluster's nodes, or in the registry that IMAGE_PREFIX names.
# Run the walk-throughs and OPERATIONS.md on the cluster that kubectl is configured for
e2e *FLAGS:
    cargo test -p cluster --features cluster-tests --test cluster -- --test-threads=4 {{FLAGS}}

# Run e2e, then node loss, on three nodes started on this machine; WORDS selects tests by name: as root, after `just images`
e2e-here *WORDS:
    #!/usr/bin/env bash
    set -euo pipefail
    # A target directory of its own: a running cargo holds the lock of the other one.
    tests=(cargo test -p cluster --features node-loss-tests --target-dir target/nodes --test cluster)
    "${tests[@]}" --no-run
    # A lost node takes other tests' pods with it.
    apart='"$@" -- --test-threads=4 --skip node_loss && "$@" -- --test-threads=1 node_loss'
    [ -z "{{WORDS}}" ] || apart='"$@" -- --test-threads=4 {{WORDS}}'
    tests/cluster/on-test-cluster bash -ec "$apart" bash "${tests[@]}"

# Check manifests and chart: rendered as committed, equal, valid by five versions' schemas, and by checkov
manifests:
    tests/manifests/lint

# Check licences, sources and bans of the dependencies
deny:
    cargo deny check bans licenses sources

# Check every binary with the oldest compiler that Cargo.toml promises
msrv:
    cargo +$(sed -n 's/^rust-version = "\(.*\)"/\1.0/p' Cargo.toml) check --workspace --bins

# Check the syntax and permissions of the workflows for public hosting. Needs npm
workflows:
    tests/workflows/lint

# Run every check that a change must pass
ci:
    .ci/run
