//! Puts the source revision into `--version`: from the environment in image builds, from git otherwise.
//! Development builds carry no revision, since otherwise each commit would compile all agents again.
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=NODECREW_REVISION");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=NODECREW_REVISION={}", revision());
}

fn revision() -> String {
    if let Ok(given) = std::env::var("NODECREW_REVISION") {
        return given;
    }
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        return "development build".into();
    }
    if let Some(head) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={head}");
    }
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown revision".into())
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
