//! `tidegate bots promote` and `rollback`.

use std::path::{Path, PathBuf};

use clap::Args;
use tidegate_filters::rule::bot_gate::Runtime;
use tidegate_models::tune::{Gates, HURT_MAX};

use super::print;
use crate::{
    cli::{Failure, Outcome, fail, say, upstream},
    promote::{self, PromoteError, Promoted, Ready, Seat, Wish},
};

/// Arguments of `bots promote`.
#[derive(Debug, Args)]
pub(super) struct Promote {
    /// The candidate (.onnx) with its card
    model: PathBuf,
    /// The policy whose bot_gate runs the live model, at whose thresholds both are compared
    #[arg(long)]
    policy: PathBuf,
    /// A journal to compare on; the policy's when left out
    #[arg(long)]
    from: Option<PathBuf>,
    /// `visitor,label,note` lines, as `bots label` writes them: its AUC must not be worse, and it must be fair to people
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Where it is put; the policy's `model` when left out
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// The share of visitors, but labelled programs, that may fare worse than with the live model
    #[arg(long, value_name = "SHARE", default_value_t = HURT_MAX, value_parser = crate::cli::evaluate_bots::share)]
    hurt_max: f64,
    /// Promote it whatever the comparison says; it must run all the same
    #[arg(long)]
    force: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Promote {
    pub(super) fn run(self) -> Outcome {
        let policy = tidegate_config::load(&self.policy).map_err(|e| fail(Failure::Usage, &e.to_string()))?.policy;
        let seat = match &self.to {
            None => Seat::of(&policy).map_err(|e| refused(e, self.json))?,
            Some(file) => Seat::at(file.clone(), &policy),
        };
        let journal = self.from.or(policy.journal.map(|j| j.directory));
        let wish = Wish { model: self.model, labels: self.labels, hurt_max: self.hurt_max, force: self.force };
        done(promote::ready(&seat, &wish, journal.as_deref(), u64::MAX, &upstream::deep()), self.json)
    }
}

pub(super) fn roll_back(file: &Path, json: bool) -> Outcome {
    let live = file.display().to_string();
    let seat = Seat { file: file.into(), live, runtime: Runtime::Auto, gates: Gates::default() };
    done(promote::back(&seat, &upstream::deep()), json)
}

fn done(ready: Result<Ready, PromoteError>, json: bool) -> Outcome {
    let (_, promoted) = ready.and_then(Ready::place).map_err(|e| refused(e, json))?;
    if json { print::json(&promoted) } else { say(&told(&promoted)) }
}

fn told(p: &Promoted) -> String {
    let mut text = p.compared.as_ref().map_or_else(String::new, print::compared);
    text += &format!("{}: model {} is in place", p.file.display(), p.model);
    if let Some(previous) = &p.previous {
        text += &format!(", the one before is {}; back: tidegate bots rollback {}", previous.display(), p.file.display());
    }
    text + "\na running gate takes it when it loads its policy again: SIGHUP, or POST /v1/policy/reload"
}

fn refused(e: PromoteError, json: bool) -> Failure {
    match e {
        PromoteError::Refused(compared) => {
            let shown = if json { print::json(&compared) } else { say(&print::compared(&compared)) };
            let what =
                format!("not promoted, the live model stays: {}; --force does it all the same", compared.refusals.join("; "));
            shown.err().unwrap_or_else(|| fail(Failure::Check, &what))
        }
        PromoteError::Uncompared(why) => fail(Failure::Check, &format!("{why}; --force promotes without a comparison")),
        e => fail(Failure::Check, &e.to_string()),
    }
}
