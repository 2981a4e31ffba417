//! The promises of k8s/, checked without a cluster. The tests read k8s/rendered/*.yaml, which cover base,
//! components and overlays, and k8s/examples. Each test asks one thing of every file and reports all faults
//! at once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod chart;
mod confinement;
mod custom;
mod environment;
mod fields;
mod image;
mod jobs;
mod layout;
mod monitoring;
mod mounts;
mod nodes;
mod object;
mod openshift;
mod peers;
mod pod;
mod probes;
mod rendering;
mod resources;
mod run;
mod scaling;
mod scaling_metric;
mod selectors;
mod settings;
