//! The Helm chart in k8s/chart gives the same objects as k8s/, has a strict schema, and says what it does.

mod effect;
mod engine;
mod equality;
mod hooks;
mod notes;
mod objects;
mod package;
mod readme;
mod schema;
mod values;
