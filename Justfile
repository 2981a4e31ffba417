# Every task that a person runs. `just` alone lists them.

_list:
    @just --list

# What the tests compile, and every binary with it: the same crates with the same features, so that nothing is compiled twice.
binaries := "cargo build --workspace --tests --bins"

# Run the whole crew on this host, with its data in ./nodecrew-data
run *FLAGS:
    cargo run --release -p nodecrew -- up {{FLAGS}}

# Everything that needs nothing but a Rust toolchain
test:
    cargo test --workspace

# Format, lints and the documentation of the code, warnings as errors
lint:
    cargo fmt --all --check
    cargo fmt --manifest-path agents/toolbox/Cargo.toml --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --document-private-items

# Tests with other people's programs: those that .ci/run installs. Some of them by a word of their names: just test-programs nc
test-programs *WORDS:
    test -x target/schemathesis/bin/schemathesis || (python3 -m venv target/schemathesis && target/schemathesis/bin/pip install --quiet 'schemathesis>=4.32,<5')
    PATH=$PWD/target/schemathesis/bin:$PATH cargo test --workspace --tests -- --ignored --skip root {{WORDS}}

# Tests that mount file systems or make namespaces, and the README's commands: as root
test-root:
    cargo test --workspace --tests -- --ignored root

# Power loss on ext4 and XFS, and a fault or SIGKILL at each system call: as root, with strace. ROUNDS=200 for many rounds and all calls
attacks *FLAGS:
    {{binaries}}
    cargo test --workspace --features attacks/root-tests --test attacks -- --test-threads 4 {{FLAGS}}

# An agent as it is shipped (or the binary that BINARY names) beside its limits and peers, as ratios: just bench logd --quick. With
# plots in target/bench/index.html
bench agent *FLAGS:
    tests/bench/peers
    cargo build --release -p bench
    [ -n "${BINARY:-}" ] || cargo build --profile dist -p {{agent}}
    ./target/release/bench {{agent}} --{{agent}} "${BINARY:-target/dist/{{agent}}}" {{FLAGS}}

# The parts through which every byte goes, in instructions beside those noted (needs valgrind; no busy machine disturbs it). --note notes
# them anew. By the clock: cargo bench -p hot --features clock
instructions *FLAGS:
    {{binaries}}
    ./target/debug/hot {{FLAGS}}

# The three agents under load for so many minutes: memory, descriptors and threads must be flat at the end
soak minutes="20":
    cargo build --release -p nodecrew
    tests/soak {{minutes}}

# Fuzz one parser, and keep in its corpus what is worth it: just fuzz pieces 1800. Needs a C++ compiler
fuzz name seconds="60":
    tests/inputs/fuzz/run {{name}} {{seconds}}

# Every image, static, out of what cargo compiles on this host; nothing is pulled
images profile="dist":
    images/build {{profile}}

# Push every image, as one index where several machines' were built: just push ghcr.io/me v1 latest
push registry *tags:
    images/push {{registry}} {{tags}}

# Load every image into kind, k3d, minikube, docker or another podman: just load kind my-cluster
load where *cluster:
    images/load {{where}} {{cluster}}

# What each image is made of, as CycloneDX files in target/sbom
sbom:
    images/sbom target/sbom

# The Debian package, in target/deb
deb profile="dist":
    packaging/deb {{profile}}

# The toolbox of the images beside the programs whose names it has
test-toolbox:
    #!/usr/bin/env bash
    set -euo pipefail
    . images/static
    # Not as it is in the images: to make it small takes minutes, for a binary that does the same.
    cargo clippy "${toolbox[@]}" --all-targets -- -D warnings
    cargo test "${toolbox[@]}"

# The images under real podman, and a real registry: as root. Not of profile dist, which is smaller and takes far longer
test-containers profile="release":
    images/build {{profile}}
    IMAGE_PROFILE={{profile}} cargo test --workspace --features containers/container-tests --test containers

# The package on a Debian with a real systemd, in a container: as root
test-package:
    packaging/test

# The walk-throughs on the cluster that kubectl is configured for; the images must be on its nodes (or IMAGE_PREFIX name their registry)
e2e *FLAGS:
    cargo test -p cluster --features cluster-tests --test cluster -- --test-threads=4 {{FLAGS}}

# The same on a three-node cluster that is started on this machine, then the loss of nodes: as root, after `just images`
e2e-here:
    #!/usr/bin/env bash
    set -euo pipefail
    # A target directory of its own: a running cargo holds the lock of the other one.
    tests=(cargo test -p cluster --features node-loss-tests --target-dir target/nodes --test cluster)
    "${tests[@]}" --no-run
    # A lost node takes other tests' pods with it.
    apart='"$@" -- --test-threads=4 --skip node_loss && "$@" -- --test-threads=1 node_loss'
    tests/cluster/on-test-cluster bash -ec "$apart" bash "${tests[@]}"

# The manifests: rendered as committed, valid in the last five versions of Kubernetes, nothing that checkov minds
manifests:
    tests/manifests/lint

# Licences, sources and bans of what goes into the binaries
deny:
    cargo deny check bans licenses sources

# Every binary with the oldest compiler that Cargo.toml promises
msrv:
    cargo +$(sed -n 's/^rust-version = "\(.*\)"/\1.0/p' Cargo.toml) check --workspace --bins

# The workflows of public hosting: their syntax and their permissions. Needs npm
workflows:
    tests/workflows/lint

# Everything that the landing checks
ci:
    .ci/run
