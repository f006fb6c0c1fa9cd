//! Drawn sales of a running gate: promised before the first entry, frozen, drawn, revealed. All of it on one thread beside
//! the visits; what a visit needs is in the room's [`SaleDraw`].

mod answer;
mod enter;
mod fetch;
mod kept;
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
use tidegate_config::Policy;
use tidegate_filters::seats::{
    draw::{
        beacon::{BeaconCheck, BeaconRound},
        digest::hash,
        live::SaleDraw,
        statement::Signer,
        transcript::{Amendment, Promise, Transcript},
    },
    room::Room,
};
use tokio::sync::watch;

pub use answer::answer;
pub use enter::enter;
pub use fetch::read as read_round;
pub(crate) use terms::Broken;
pub use work::work;

use crate::{beacon, control::Control, keys::StatementKey, state::Active};

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
    /// Checked beacon rounds, by source and number.
    rounds: Mutex<BTreeMap<(String, u64), BeaconRound>>,
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
            rounds: Mutex::default(),
        }
    }

    /// What changed after the first entry.
    pub fn amendments(&self, sale: &str) -> Vec<Amendment> {
        self.amendments.lock().get(sale).map(|(list, _)| list.clone()).unwrap_or_default()
    }

    /// Signs changes of schedule that a new policy brings to sales in which people have entered. The draw's own thread
    /// writes them down.
    pub fn amend(&self, old: &Active, new: &Policy, at_s: u64) {
        for draw in old.pipeline.rooms().iter().flat_map(Room::draws).filter(|d| d.has_entries()) {
            let find = |p: &Policy| p.sales.iter().find(|s| s.name == draw.sale_id()).cloned();
            let (Some(pledge), Some(was), Some(is)) = (draw.pledged(), find(&old.policy), find(new)) else { continue };
            let moved = (&was.opens_at, &was.closes_at) != (&is.opens_at, &is.closes_at);
            let (o, c) = ((&is.opens_at, &was.opens_at), (&is.closes_at, &was.closes_at));
            let texts = [
                moved.then(|| format!("opens at {}, closes at {}; before: opens at {}, closes at {}", o.0, c.0, o.1, c.1)),
                is.cancelled.as_ref().filter(|_| was.cancelled.is_none()).map(|why| format!("{}{why}", terms::CANCELLED)),
            ];
            for text in texts.into_iter().flatten() {
                tracing::info!(sale = draw.sale_id(), %text, "amendment");
                let signed = Amendment::sign(&self.signer, draw.sale_id(), &pledge.commitment, at_s, &text);
                self.amendments.lock().entry(draw.sale_id().to_owned()).or_default().0.push(signed);
            }
            if let Some(terms) = self.terms.lock().get_mut(draw.sale_id()).filter(|_| moved) {
                (terms.schedule.opens_ms, terms.schedule.closes_ms) = (is.opens_at.unix_ms(), is.closes_at.unix_ms());
            }
        }
    }

    /// A revealed list.
    pub fn revealed(&self, sale: &str, window: u64) -> Option<Arc<Revealed>> {
        self.revealed.read().get(&(sale.to_owned(), window)).cloned()
    }

    /// A beacon round that an operator brings. It is checked here, and used by the list that waits for it.
    pub fn bring(&self, round: BeaconRound) -> Result<(), String> {
        match beacon::check(&round) {
            BeaconCheck::Proven => {}
            BeaconCheck::Unproven(why) | BeaconCheck::Wrong(why) => return Err(why),
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
