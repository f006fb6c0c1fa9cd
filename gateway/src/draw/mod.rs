//! Drawn sales of a running gate: promised before the first entry, frozen, drawn, revealed. All of it on one thread beside
//! the visits; what a visit needs is in the room's [`SaleDraw`].

mod answer;
mod called_off;
mod enter;
mod fetch;
mod kept;
mod rendered;
mod rules;
mod step;
mod terms;
mod work;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tidegate_config::Policy;
use tidegate_filters::seats::{
    draw::{
        beacon::{BeaconCheck, BeaconRound},
        digest::hash,
        live::SaleDraw,
        statement::Signer,
        transcript::{Amendment, CANCELLED, Promise, Transcript},
    },
    room::Room,
};
use tokio::sync::watch;

pub use answer::answer;
pub use enter::enter;
pub use fetch::read as read_round;
pub use rendered::style;
pub(crate) use step::publish;
pub(crate) use terms::{Broken, instant};
pub use work::work;

use crate::{
    beacon,
    control::Control,
    keys::StatementKey,
    state::Active,
    store::{Batch, Store, StoreError},
};

/// How often draws are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Rounds an operator brought that no list waits for yet.
const ROUNDS_MAX: usize = 64;

/// The draws of one gate.
pub struct Draws {
    /// Signs receipts and frozen lists.
    pub signer: Signer,
    /// Names entries; secret.
    entry_key: [u8; 32],
    /// Where transcripts and lists are published from.
    directory: PathBuf,
    sales: Mutex<BTreeMap<String, Sale>>,
    /// Revealed lists, by sale and window.
    revealed: RwLock<BTreeMap<(String, u64), Arc<Revealed>>>,
    /// Signed changes of schedule, by sale, and how many of them are on the disk.
    amendments: Mutex<BTreeMap<String, (Vec<Amendment>, usize)>>,
    /// What was promised, by sale.
    terms: Mutex<BTreeMap<String, terms::Terms>>,
    /// What people were told of sales that do not take place.
    called_off: called_off::CalledOff,
    /// Checked beacon rounds, by source and number.
    rounds: Mutex<BTreeMap<(String, u64), BeaconRound>>,
}

/// What a load changes for people who have entered.
struct Change {
    sale: String,
    amendments: Vec<Amendment>,
    /// With the new schedule, where it moved.
    terms: Option<terms::Terms>,
}

/// What the draw's own thread knows of a sale.
#[derive(Default)]
struct Sale {
    /// The last secret of the chain; the only one where there is one list.
    last: Option<[u8; 32]>,
    /// The first window that is not drawn.
    next: u64,
    /// A frozen list on its way to the disk.
    freezing: Option<step::Freezing>,
    /// When the operator was last told that something is missing, monotonic milliseconds.
    told_ms: Option<u64>,
}

/// Why a beacon round is not taken.
#[derive(Debug, Error)]
pub enum Unwanted {
    /// It is not the beacon's.
    #[error("{0}")]
    Wrong(String),
    /// No list waits for it.
    #[error("no list waits for round {round} of {beacon}")]
    Useless {
        /// As brought.
        round: u64,
        /// As brought.
        beacon: String,
        /// What lists wait for.
        waiting: Vec<String>,
    },
}

impl Unwanted {
    /// What to do.
    pub fn instead(&self) -> String {
        match self {
            Unwanted::Useless { waiting, .. } if waiting.is_empty() => {
                "no list waits for a round now; which one counts is known once the list is frozen: GET /.tidegate/draw says it"
                    .into()
            }
            Unwanted::Useless { waiting, .. } => format!("bring what is waited for: {}", waiting.join("; ")),
            Unwanted::Wrong(_) => {
                "send the round as drand answers it: {\"round\", \"randomness\", \"signature\"}, with \"source\" when it is another \
                 beacon's than drand quicknet's"
                    .into()
            }
        }
    }
}

/// A list that is drawn and published.
#[derive(Debug)]
pub struct Revealed {
    /// Everything a stranger needs.
    pub transcript: Transcript,
    /// The entries file.
    pub entries: PathBuf,
    /// The transcript's file.
    pub file: PathBuf,
}

impl Draws {
    /// `directory`: the state's, or any that can be written to.
    pub fn new(key: &StatementKey, directory: &Path) -> Self {
        Draws {
            signer: Signer::new(&key.0),
            entry_key: hash([b"tidegate/1/entry-key".as_slice(), &key.0]),
            directory: directory.join("draws"),
            sales: Mutex::default(),
            revealed: RwLock::default(),
            amendments: Mutex::default(),
            terms: Mutex::default(),
            called_off: Mutex::default(),
            rounds: Mutex::default(),
        }
    }

    /// What changed after the first entry.
    pub fn amendments(&self, sale: &str) -> Vec<Amendment> {
        self.amendments.lock().get(sale).map(|(list, _)| list.clone()).unwrap_or_default()
    }

    /// Signs changes of schedule that a new policy brings to sales in which people have entered, and waits until they and what
    /// it calls off are on the disk: a policy that was answered as in force holds over a kill right after it. `Err`: nothing has changed.
    pub fn amend(&self, store: &dyn Store, old: &Active, new: &Policy, at_s: u64) -> Result<(), StoreError> {
        let changes = self.changes(old, new, at_s);
        let (mut batch, mut undo) = (Batch::new(), Batch::new());
        let off = self.newly_called_off(new);
        self.put_called_off(&mut batch, &off);
        off.iter().for_each(|(sale, _)| kept::take_back_called_off(&mut undo, sale));
        for change in &changes {
            let first = self.amendments.lock().get(&change.sale).map_or(0, |(list, _)| list.len());
            for (n, amendment) in (first..).zip(&change.amendments) {
                kept::put_amendment(&mut batch, &change.sale, n, amendment);
                kept::take_back_amendment(&mut undo, &change.sale, n);
            }
            if let (Some(terms), Some(promised)) = (&change.terms, kept::promise(store, &change.sale)?) {
                kept::put_promise(&mut batch, &change.sale, &terms.kept(promised.last));
                kept::put_promise(&mut undo, &change.sale, &promised);
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        if let Err(why) = store.commit(batch).wait() {
            drop(store.commit(undo));
            return Err(why);
        }
        self.remember(off);
        for Change { sale, amendments, terms } in changes {
            self.terms.lock().extend(terms.map(|t| (sale.clone(), t)));
            // Written again by the draw's own thread, which publishes them.
            self.amendments.lock().entry(sale).or_default().0.extend(amendments);
        }
        Ok(())
    }

    fn changes(&self, old: &Active, new: &Policy, at_s: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        for draw in old.pipeline.rooms().iter().flat_map(Room::draws).filter(|d| d.has_entries()) {
            let find = |p: &Policy| p.sales.iter().find(|s| s.name == draw.sale_id()).cloned();
            let (Some(pledge), Some(was), Some(is)) = (draw.pledged(), find(&old.policy), find(new)) else { continue };
            let moved = (&was.opens_at, &was.closes_at) != (&is.opens_at, &is.closes_at);
            let (o, c) = ((&is.opens_at, &was.opens_at), (&is.closes_at, &was.closes_at));
            let texts = [
                moved.then(|| format!("opens at {}, closes at {}; before: opens at {}, closes at {}", o.0, c.0, o.1, c.1)),
                is.cancelled.as_ref().filter(|_| was.cancelled.is_none()).map(|why| format!("{CANCELLED}{why}")),
            ];
            let sign = |text: String| {
                tracing::info!(sale = draw.sale_id(), %text, "amendment");
                Amendment::sign(&self.signer, draw.sale_id(), &pledge.commitment, at_s, &text)
            };
            let amendments: Vec<_> = texts.into_iter().flatten().map(sign).collect();
            let mut terms = moved.then(|| self.terms.lock().get(draw.sale_id()).cloned()).flatten();
            if let Some(terms) = &mut terms {
                (terms.schedule.opens_ms, terms.schedule.closes_ms) = (is.opens_at.unix_ms(), is.closes_at.unix_ms());
            }
            if !amendments.is_empty() {
                changes.push(Change { sale: draw.sale_id().to_owned(), amendments, terms });
            }
        }
        changes
    }

    /// A revealed list.
    pub fn revealed(&self, sale: &str, window: u64) -> Option<Arc<Revealed>> {
        self.revealed.read().get(&(sale.to_owned(), window)).cloned()
    }

    /// A beacon round that an operator or a relay brings. It is checked here, and used by the lists that wait for it.
    pub fn bring(&self, active: &Active, round: BeaconRound) -> Result<(), Unwanted> {
        let lists =
            || active.pipeline.rooms().iter().flat_map(Room::draws).flat_map(|d| d.waits_for_rounds().map(move |l| (d, l)));
        if !lists().any(|(_, l)| l.round == round.round && l.beacon_source == round.source) {
            let waiting = lists()
                .take(ROUNDS_MAX)
                .map(|(d, l)| format!("sale `{}`: round {} of {}", d.sale_id(), l.round, l.beacon_source));
            return Err(Unwanted::Useless { round: round.round, beacon: round.source, waiting: waiting.collect() });
        }
        match beacon::check(&round) {
            BeaconCheck::Proven => {}
            BeaconCheck::Unproven(why) | BeaconCheck::Wrong(why) => return Err(Unwanted::Wrong(why)),
        }
        let mut rounds = self.rounds.lock();
        while rounds.len() >= ROUNDS_MAX {
            rounds.pop_first();
        }
        rounds.insert((round.source.clone(), round.round), round);
        Ok(())
    }

    fn promise(&self, draw: &SaleDraw, window: u64, secret: [u8; 32]) -> Option<Promise> {
        let pledge = draw.pledged()?;
        Some(Promise {
            sale_id: draw.sale_id().into(),
            window: draw.is_chained().then_some(window),
            rules_json: pledge.rules_json.clone(),
            rules: pledge.rules,
            commitment: pledge.commitment,
            secret,
        })
    }
}

/// Looks after the draws until `stop` is true.
pub(crate) fn start(control: Arc<Control>, stop: watch::Receiver<bool>) -> std::io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name("draws".into()).spawn(move || {
        while !*stop.borrow() {
            runtime.block_on(step::all(&control));
            thread::sleep(LOOK_EVERY);
        }
    })
}
