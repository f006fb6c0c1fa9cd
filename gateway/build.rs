//! `tidegate version` names the revision that a release is built from: bug reports begin with it.

use std::{path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=TIDEGATE_REVISION");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match revision() {
        Some(revision) => format!("{version} ({revision})"),
        None => version,
    };
    println!("cargo::rustc-env=TIDEGATE_VERSION={version}");
}

/// Packages are built without git: they name it in `TIDEGATE_REVISION`.
fn revision() -> Option<String> {
    // A development build would be built again after each commit, and says less than its work tree anyway.
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return None;
    }
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
    std::env::var("TIDEGATE_REVISION").ok().or_else(|| git(&["rev-parse", "--short=12", "HEAD"]))
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}
