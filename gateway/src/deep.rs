//! Checks of a policy that need the gate itself: TLS takes the certificates, a model survives a trial in a child process.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tidegate_config::{DeepCheck, Tls};
use tidegate_filters::rule::bot_gate::BotGateSettings;

use crate::tls;

/// How long a model may take on trial.
const TRIAL_MAX: Duration = Duration::from_secs(20);
const TRIAL_LOOK_EVERY: Duration = Duration::from_millis(5);
/// Bytes of the child's complaint that are repeated.
const COMPLAINT_MAX: usize = 400;

/// Where models are tried before they are used.
#[derive(Clone, Debug, Default)]
pub enum Trial {
    /// In a child process of this program (`tidegate try-model`): a hostile file cannot take the gate with it.
    Child(PathBuf),
    /// Not at all: programs that embed the gate have no such command.
    #[default]
    None,
}

/// The gate's own deep checks.
#[derive(Clone, Debug, Default)]
pub struct Deep {
    /// Where models are tried.
    pub trial: Trial,
}

impl DeepCheck for Deep {
    fn certificate(&self, files: &Tls) -> Result<(), String> {
        tls::check(files).map_err(|e| e.to_string())
    }

    fn authorities(&self, file: &Path) -> Result<(), String> {
        tls::read_authorities(file).map(drop).map_err(|e| e.to_string())
    }

    fn model(&self, settings: &BotGateSettings) -> Result<(), String> {
        match &self.trial {
            Trial::Child(program) if settings.model != "builtin" => try_in_child(program, settings),
            _ => Ok(()),
        }
    }
}

fn try_in_child(program: &Path, settings: &BotGateSettings) -> Result<(), String> {
    let runtime = serde_json::to_value(settings.runtime).ok();
    let runtime = runtime.as_ref().and_then(|r| r.as_str()).unwrap_or("auto");
    let child = Command::new(program)
        .args(["try-model", "--runtime", runtime, "--", &settings.model])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|e| format!("cannot start the trial of {}: {e}", settings.model))?;
    let mut waited = Duration::ZERO;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if waited < TRIAL_MAX => {
                std::thread::sleep(TRIAL_LOOK_EVERY);
                waited += TRIAL_LOOK_EVERY;
            }
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{} was not ready after {} s of trial", settings.model, TRIAL_MAX.as_secs()));
            }
            Err(e) => return Err(format!("cannot follow the trial of {}: {e}", settings.model)),
        }
    }
    let output = child.wait_with_output().map_err(|e| format!("cannot read the trial of {}: {e}", settings.model))?;
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(COMPLAINT_MAX).collect();
    let how = if said.is_empty() { format!("the trial ended with {}", output.status) } else { said };
    Err(format!("{} failed its trial: {how}", settings.model))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn settings(model: &str) -> BotGateSettings {
        serde_json::from_value(serde_json::json!({ "model": model, "when_unscored": "wait" })).unwrap()
    }

    fn program(dir: &Path, script: &str) -> PathBuf {
        let path = dir.join("trial.sh");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    #[test]
    fn a_model_that_kills_its_trial_is_an_error_and_not_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let tried = |script: &str| Deep { trial: Trial::Child(program(dir.path(), script)) }.model(&settings("m.onnx"));
        assert_eq!(tried("[ \"$1 $2 $3 $4 $5\" = 'try-model --runtime auto -- m.onnx' ]"), Ok(()));
        assert!(tried("echo 'input is float64' >&2; exit 1").unwrap_err().contains("input is float64"));
        assert!(tried("kill -ABRT $$").unwrap_err().contains("signal"));
        let missing = Deep { trial: Trial::Child(dir.path().join("absent")) };
        assert!(missing.model(&settings("m.onnx")).is_err());
        assert_eq!(missing.model(&settings("builtin")), Ok(()), "what is shipped needs no trial");
    }
}
