//! Checks of a policy that need the gate itself: TLS takes the certificates, a model survives a trial in a child process.

use std::path::{Path, PathBuf};

use tidegate_config::{Checks, DeepCheck, ForecastSettings, Tls};
use tidegate_filters::{
    rule::{
        bot_gate::{BotGateSettings, Runtime},
        good_bots::BotSettings,
    },
    seats::page::PageSettings,
};
use tidegate_models::{
    Blocks,
    scorer::BUILTIN,
    trial::{TRIAL_DEADLINE, trial_in_child},
};

use crate::{bots, clock::Clock, keys::Keys, pages, tls};

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

impl Deep {
    /// All checks of a policy that is to run, at the present time.
    pub fn checks(&self, clock: &Clock) -> Checks<'_> {
        Checks { now_unix_ms: Some(clock.now().wall_ms), skip_files: false, deep: Some(self), to_run: true }
    }
}

impl DeepCheck for Deep {
    fn certificate(&self, files: &Tls) -> Result<(), String> {
        tls::check(files).map_err(|e| e.to_string())
    }

    fn authorities(&self, file: &Path) -> Result<(), String> {
        tls::read_authorities(file).map(drop).map_err(|e| e.to_string())
    }

    fn page(&self, settings: &PageSettings) -> Result<(), String> {
        pages::check(settings).map_err(|e| e.to_string())
    }

    fn keys(&self, directory: &Path) -> Result<(), String> {
        Keys::check(directory).map_err(|e| e.to_string())
    }

    fn forecast(&self, settings: &ForecastSettings) -> Result<(), String> {
        self.try_forecast(settings)
    }

    fn good_bot(&self, settings: &BotSettings) -> Result<(), (&'static str, String)> {
        bots::check(settings)
    }

    fn model(&self, settings: &BotGateSettings) -> Result<(), String> {
        self.try_bots(&settings.model, settings.runtime)
    }

    fn runtime(&self, settings: &BotGateSettings) -> Result<Option<(String, &'static str)>, String> {
        // Opened as a start does it: a file has survived its trial, which is on the CPU.
        let blocks = Blocks::open(&settings.model, settings.runtime).map_err(|e| e.to_string())?;
        Ok(blocks.without_device())
    }
}

impl Deep {
    /// A trial of a bot model, where it is a file.
    pub(crate) fn try_bots(&self, model: &str, runtime: Runtime) -> Result<(), String> {
        match &self.trial {
            Trial::Child(program) if model != BUILTIN => try_in_child(program, model, runtime),
            _ => Ok(()),
        }
    }

    /// A trial of the forecast's model, where it is a file.
    pub(crate) fn try_forecast(&self, settings: &ForecastSettings) -> Result<(), String> {
        match &self.trial {
            Trial::Child(program) if settings.file().is_some() => {
                let args = ["try-model", "--forecast", "--runtime", settings.runtime.name(), "--", &settings.model];
                trial_in_child(program, args, TRIAL_DEADLINE).map(drop).map_err(|e| format!("{}: {e}", settings.model))
            }
            _ => Ok(()),
        }
    }
}

/// Tries a bot model in a process of its own: what crashes there does not crash this one.
pub(crate) fn try_in_child(program: &Path, model: &str, runtime: Runtime) -> Result<(), String> {
    let args = ["try-model", "--runtime", runtime.name(), "--", model];
    trial_in_child(program, args, TRIAL_DEADLINE).map(drop).map_err(|e| format!("{model}: {e}"))
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
        let echo = |line: &str| format!("[ \"$1 $2 $3 $4 $5\" = 'try-model --runtime auto -- m.onnx' ] && echo '{line}'");
        let inspection = r#"{"features":1,"batch":"n","output":0,"output_name":"p","operators":[],"bytes":1}"#;
        let good = format!(r#"{{"trial":{{"runtime":"builtin","inspection":{inspection},"scores":[0.5]}}}}"#);
        assert_eq!(tried(&echo(&good)), Ok(()));
        assert!(tried("echo rubbish").is_err());
        let said = r#"{"error":"input is float64"}"#;
        assert!(tried(&echo(said)).unwrap_err().contains("input is float64"));
        assert!(tried("kill -ABRT $$").unwrap_err().contains("crashed"));
        let missing = Deep { trial: Trial::Child(dir.path().join("absent")) };
        assert!(missing.model(&settings("m.onnx")).is_err());
        assert_eq!(missing.model(&settings("builtin")), Ok(()), "what is shipped needs no trial");
    }
}
