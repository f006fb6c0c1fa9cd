//! A trial run of a model file in a child process: what crashes there does not crash the gate.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tidegate_filters::rule::bot_gate::Runtime;

use crate::{
    card::ModelCard,
    error::ModelError,
    features::N,
    inspect::{Inspection, inspect_bytes, read_model},
    session::Engine,
};

/// How long a trial may take.
pub const TRIAL_DEADLINE: Duration = Duration::from_secs(10);

const STEP: Duration = Duration::from_millis(5);

/// A child's answer is short; what is longer is cut.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

const ROWS: usize = 3;

/// What a trial found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The runtime that ran it.
    pub runtime: Runtime,
    /// What the file says about itself.
    pub inspection: Inspection,
    /// Scores of three made-up rows.
    pub scores: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Trial(Trial),
    Error(String),
}

/// Inspects, checks the card, loads and runs three made-up rows, in this process.
pub fn try_model(path: &Path, runtime: Runtime) -> Result<Trial, ModelError> {
    let unfit = |why: String| ModelError::Unfit { path: path.to_owned(), why };
    let bytes = read_model(path)?;
    let inspection = inspect_bytes(path, &bytes)?;
    ModelCard::read_for(path, &bytes)?;
    if inspection.features != N {
        return Err(unfit(format!("takes {} features; this gate computes {N}", inspection.features)));
    }
    let engine = Engine::choose(runtime)?;
    inspection.fits(engine.runtime()).map_err(unfit)?;
    let mut session = engine.load(&bytes, &inspection)?;
    let mut scores = vec![];
    for row in 0..ROWS {
        let features: Vec<f32> = (0..N).map(|i| ((i * 37 + row * 101) % 17) as f32 / 8.0 - 1.0).collect();
        let p = session.run(&features).map_err(|e| unfit(format!("fails on a row: {e}")))?;
        if !(-1e-5..=1.0 + 1e-5).contains(&p) {
            return Err(unfit(format!("says {p} about a row; a score is a probability in [0, 1]")));
        }
        scores.push(p);
    }
    Ok(Trial { runtime: engine.runtime(), inspection, scores })
}

/// The body of the hidden subcommand that is the child: prints one line of JSON and gives the exit code.
pub fn trial_main(path: &Path, runtime: Runtime) -> i32 {
    answer(try_model(path, runtime))
}

/// Prints what a trial found and gives the exit code.
pub fn answer(found: Result<Trial, ModelError>) -> i32 {
    let (answer, code) = match found {
        Ok(trial) => (Answer::Trial(trial), 0),
        Err(e) => (Answer::Error(e.to_string()), 1),
    };
    let line = serde_json::to_string(&answer).unwrap_or_default();
    // A parent that is gone cannot be told anything.
    let _ = writeln!(std::io::stdout(), "{line}");
    code
}

/// Runs `exe args…`, which must end in [`trial_main`], and waits at most `deadline`. A crash, a timeout or rubbish is an error.
pub fn trial_in_child<A: AsRef<OsStr>>(
    exe: &Path,
    args: impl IntoIterator<Item = A>,
    deadline: Duration,
) -> Result<Trial, ModelError> {
    let trial = |why: String| ModelError::Trial(why);
    let mut child = Command::new(exe)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| trial(format!("could not start ({}: {e})", exe.display())))?;
    let status = wait(&mut child, deadline)?;
    let mut text = String::new();
    if let Some(out) = child.stdout.take() {
        // Not UTF-8 is rubbish too: what was read so far tells.
        let _ = out.take(ANSWER_BYTES_MAX).read_to_string(&mut text);
    }
    let line = text.lines().rev().find(|l| l.starts_with('{'));
    match line.and_then(|l| serde_json::from_str(l).ok()) {
        Some(Answer::Trial(t)) if status.success() => Ok(t),
        Some(Answer::Error(why)) => Err(trial(format!("failed: {why}"))),
        _ => Err(trial(format!("crashed ({status})"))),
    }
}

/// Counts its own naps instead of asking a clock.
fn wait(child: &mut Child, deadline: Duration) -> Result<ExitStatus, ModelError> {
    let naps = deadline.as_millis() / STEP.as_millis();
    for _ in 0..=naps {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => thread::sleep(STEP),
            Err(e) => return Err(ModelError::Trial(format!("was lost: {e}"))),
        }
    }
    // It may have ended this very moment; the answer is late anyway.
    let _ = child.kill();
    let _ = child.wait();
    Err(ModelError::Trial(format!("took longer than {} s and was ended", deadline.as_secs_f32())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::testing;

    fn shell(script: &str, deadline: Duration) -> Result<Trial, ModelError> {
        trial_in_child(Path::new("/bin/sh"), ["-c", script], deadline)
    }

    #[test]
    #[ignore = "the child process of the next test"]
    fn child() {
        let path = std::env::args().next_back().unwrap();
        std::process::exit(trial_main(Path::new(&path), Runtime::Builtin));
    }

    fn in_child(path: &Path) -> Result<Trial, ModelError> {
        let exe = std::env::current_exe().unwrap();
        let args = ["--ignored", "--nocapture", "--exact", "trial::tests::child", path.to_str().unwrap()];
        trial_in_child(&exe, args, TRIAL_DEADLINE)
    }

    #[test]
    fn a_model_is_tried_in_a_process_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts/bots-2.onnx");
        let trial = in_child(&artifacts).unwrap();
        assert_eq!((trial.scores.len(), trial.runtime, trial.inspection.features), (ROWS, Runtime::Builtin, N));
        let strange = testing::put(dir.path(), &testing::log_of_first(), |c| c);
        let e = in_child(&strange).unwrap_err().to_string();
        assert!(e.contains("a score is a probability"), "{e}");
        std::fs::write(&strange, b"rubbish").unwrap();
        assert!(in_child(&strange).unwrap_err().to_string().contains("not an ONNX file"));
    }

    #[test]
    fn crashes_rubbish_and_endless_trials_are_errors() {
        let long = Duration::from_secs(20);
        let e = shell("kill -SEGV $$", long).unwrap_err().to_string();
        assert!(e.contains("crashed (signal: 11"), "{e}");
        assert!(shell("echo hello; exit 0", long).unwrap_err().to_string().contains("crashed (exit status: 0)"));
        assert!(
            shell("echo '{\"error\":\"bad weights\"}'; exit 1", long).unwrap_err().to_string().contains("failed: bad weights")
        );
        let e = shell("exec sleep 600", Duration::from_millis(50)).unwrap_err().to_string();
        assert!(e.contains("took longer than"), "{e}");
        let absent = trial_in_child(Path::new("/nowhere/tidegate"), ["x"], long).unwrap_err().to_string();
        assert!(absent.contains("could not start"), "{absent}");
    }
}
