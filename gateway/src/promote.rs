//! A trained model becomes the live one when it has shown on the journal that it may; and the one before comes back.

use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;
use tidegate_config::Policy;
use tidegate_filters::rule::bot_gate::{BotGateSettings, Runtime};
use tidegate_models::{
    ModelError, Scorer,
    journal::{JournalReader, list},
    place::{Placed, Staged, previous},
    scorer::BUILTIN,
    tune::{Compared, Comparing, Gates, LabelError, Labels},
};

use crate::{
    control::{Control, LoadError},
    deep::Deep,
    operate::By,
    scoring,
};

/// Rows of the newest journal files that a running gate compares models on: its answer must come in time.
pub const ROWS_MAX: u64 = 200_000;

/// Where a model would live, and what it is compared by.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// The file.
    pub(crate) file: PathBuf,
    /// What is there now: that file, or `builtin`.
    pub(crate) live: String,
    /// What runs it.
    pub(crate) runtime: Runtime,
    /// What its scores do.
    pub(crate) gates: Gates,
}

/// A wish to promote.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// The candidate.
    pub(crate) model: PathBuf,
    /// What visitors are.
    pub(crate) labels: Option<PathBuf>,
    /// The share of visitors that may fare worse.
    pub(crate) hurt_max: f64,
    /// Whatever the comparison says.
    pub(crate) force: bool,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Promoted {
    /// First 8 bytes of the model's SHA-256, hex.
    pub(crate) model: String,
    /// Of the one before; empty when it could not be opened.
    pub(crate) was: String,
    /// Where it lies.
    pub(crate) file: PathBuf,
    /// Where the one before lies, for a rollback.
    pub(crate) previous: Option<PathBuf>,
    /// What the journal says of both; `None` on the way back, and where a forced one could not be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compared: Option<Compared>,
}

/// Why the live model stays.
#[derive(Debug, Error)]
pub enum PromoteError {
    /// The policy names no file that could be replaced.
    #[error("{0}")]
    NoSeat(String),
    /// The candidate cannot be used at all.
    #[error("{0}")]
    Unfit(String),
    /// The labels cannot be read.
    #[error("{0}")]
    Labels(#[from] LabelError),
    /// Nothing to compare on.
    #[error("{0}")]
    Uncompared(String),
    /// It does worse.
    #[error("the model is not promoted: {}", .0.refusals.join("; "))]
    Refused(Box<Compared>),
    /// It is in place already.
    #[error("this is the live model already")]
    Same,
    /// A gate refuses it.
    #[error("the old model stays: {0}")]
    Load(#[from] LoadError),
}

impl From<ModelError> for PromoteError {
    fn from(e: ModelError) -> Self {
        PromoteError::Unfit(e.to_string())
    }
}

impl Seat {
    /// A file that may be another than the policy's.
    pub(crate) fn at(file: PathBuf, policy: &Policy) -> Seat {
        let gate = scoring::gates(policy).next();
        Seat {
            file,
            live: gate.map_or(BUILTIN.into(), |g| g.model.clone()),
            // A comparison is short, and the device is the live model's.
            runtime: gate.map_or(Runtime::Auto, |g| g.runtime.on_cpu()),
            gates: Gates::of(scoring::gates(policy)),
        }
    }

    /// The file of a policy.
    pub(crate) fn of(policy: &Policy) -> Result<Seat, PromoteError> {
        let none = |why: &str| PromoteError::NoSeat(why.into());
        let gate: &BotGateSettings = scoring::gates(policy).next().ok_or_else(|| none("the policy has no bot_gate"))?;
        if gate.model == BUILTIN {
            return Err(none(
                "the policy runs the shipped model, which has no file: `tidegate bots promote MODEL --to FILE` puts one in place, then write `model: FILE`",
            ));
        }
        Ok(Seat::at(gate.model.clone().into(), policy))
    }
}

/// A candidate that was tried and compared, and lies beside the live model.
pub(crate) struct Ready {
    staged: Staged,
    promoted: Promoted,
}

impl Ready {
    /// Puts it in place. What it gives back can undo that.
    pub(crate) fn place(self) -> Result<(Placed, Promoted), PromoteError> {
        let placed = self.staged.place()?;
        let previous = Some(previous(&self.promoted.file)).filter(|p| p.exists());
        Ok((placed, Promoted { previous, ..self.promoted }))
    }
}

/// Tries the candidate in a child process and compares it with the live model. Changes nothing.
pub(crate) fn ready(seat: &Seat, wish: &Wish, journal: Option<&Path>, rows_max: u64, deep: &Deep) -> Result<Ready, PromoteError> {
    let labels = wish.labels.as_deref().map(Labels::read).transpose()?;
    let (staged, candidate) = tried(seat, &wish.model, deep)?;
    let live = Scorer::open(&seat.live, seat.runtime, 1);
    let was = live.as_ref().map_or(String::new(), |s| s.model().to_owned());
    if was == candidate.model() {
        return Err(PromoteError::Same);
    }
    let compared = live.map_err(|e| PromoteError::Uncompared(format!("the live model cannot be opened: {e}"))).and_then(|live| {
        let journal =
            journal.ok_or_else(|| PromoteError::Uncompared("the policy has no journal to compare the models on".into()))?;
        let comparing = Comparing::new(seat.gates.clone(), labels.as_ref());
        compare(journal, rows_max, [&live, &candidate], comparing, wish.hurt_max)
    });
    let compared = match compared {
        Ok(compared) if !compared.refusals.is_empty() && !wish.force => return Err(PromoteError::Refused(compared.into())),
        Err(why) if !wish.force => return Err(why),
        outcome => outcome.ok(),
    };
    let model = candidate.model().to_owned();
    Ok(Ready { staged, promoted: Promoted { model, was, file: seat.file.clone(), previous: None, compared } })
}

/// The same for the model before: what was live once is not compared again.
pub(crate) fn back(seat: &Seat, deep: &Deep) -> Result<Ready, PromoteError> {
    let before = previous(&seat.file);
    if !before.exists() {
        let what = format!("there is no model before this one: {} is missing", before.display());
        return Err(PromoteError::NoSeat(what));
    }
    let (staged, candidate) = tried(seat, &before, deep)?;
    let was = Scorer::open(&seat.live, seat.runtime, 1).map_or(String::new(), |s| s.model().to_owned());
    let model = candidate.model().to_owned();
    Ok(Ready { staged, promoted: Promoted { model, was, file: seat.file.clone(), previous: None, compared: None } })
}

fn tried(seat: &Seat, model: &Path, deep: &Deep) -> Result<(Staged, Scorer), PromoteError> {
    let staged = Staged::new(model, &seat.file)?;
    // Messages name the file that was asked for, not where it was tried.
    let next = staged.path().display().to_string();
    let named = |why: String| PromoteError::Unfit(why.replace(&next, &model.display().to_string()));
    deep.try_bots(&next, seat.runtime).map_err(named)?;
    let scorer = Scorer::open(&next, seat.runtime, 1).map_err(|e| named(e.to_string()))?;
    Ok((staged, scorer))
}

/// Both models say what they think of the newest files that together have so many rows, at least of one file.
fn compare(
    journal: &Path,
    rows_max: u64,
    models: [&Scorer; 2],
    mut comparing: Comparing<'_>,
    hurt_max: f64,
) -> Result<Compared, PromoteError> {
    let none = |why: String| PromoteError::Uncompared(format!("{}: {why}", journal.display()));
    let (mut readers, mut notes, mut rows) = (Vec::new(), Vec::new(), 0);
    for file in list(journal).map_err(|e| none(e.to_string()))?.iter().rev() {
        match JournalReader::open(file) {
            Err(e) => notes.push(e.to_string()),
            Ok(reader) => match reader.other_features() {
                Some(why) => notes.push(format!("{}: {why}", file.display())),
                None if rows > 0 && rows + reader.rows_total() > rows_max => break,
                None => {
                    rows += reader.rows_total();
                    readers.push(reader);
                }
            },
        }
    }
    let [live, candidate] = models.map(|scorer| move |features: &[f32]| scorer.score(features).known());
    for row in readers.into_iter().rev().flatten() {
        match row {
            Ok(row) => comparing.take(&row, &live, &candidate),
            Err(e) => notes.push(e.to_string()),
        }
    }
    match comparing.close(hurt_max) {
        Ok(mut compared) => {
            compared.notes.append(&mut notes);
            Ok(compared)
        }
        Err(why) => {
            notes.insert(0, why);
            Err(none(notes.join("; ")))
        }
    }
}

impl Control {
    /// Promotes a model on this machine, in force when this returns; on any error nothing has changed.
    pub(crate) fn promote(&self, wish: &Wish) -> Result<Promoted, PromoteError> {
        self.replace("promote", wish.force, |seat, policy| {
            let journal = policy.journal.as_ref().map(|j| j.directory.as_path());
            ready(seat, wish, journal, ROWS_MAX, self.deep())
        })
    }

    /// The model before comes back.
    pub(crate) fn roll_back(&self) -> Result<Promoted, PromoteError> {
        self.replace("rollback", false, |seat, _| back(seat, self.deep()))
    }

    fn replace(
        &self,
        what: &str,
        forced: bool,
        ready: impl FnOnce(&Seat, &Policy) -> Result<Ready, PromoteError>,
    ) -> Result<Promoted, PromoteError> {
        let _one = self.one_load();
        let policy = self.shared.active.load().policy.clone();
        let (placed, promoted) = ready(&Seat::of(&policy)?, &policy)?.place()?;
        if let Err(error) = self.take_again() {
            placed.undo()?;
            return Err(error.into());
        }
        let (was, model) = (&promoted.was, &promoted.model);
        tracing::info!(%was, %model, forced, "operator: bots {what}");
        let done = format!("bots {what}: {was} -> {model}{}", if forced { ", forced" } else { "" });
        self.note_operator(By::Admin, done, "");
        Ok(promoted)
    }
}
