//! One step of every draw: promise, restore, freeze, draw, reveal. Each is on the disk before anybody is told.

use std::{fs, io::Write as _, path::Path, sync::Arc};

use tidegate_filters::{
    Now,
    seats::{
        draw::{
            beacon::BeaconSettings,
            census::Census,
            commit::{commitment, earlier_by, rules_hash},
            drum::{Drum, places},
            entries,
            live::{Frozen, SaleDraw, Window},
            rules::Rules,
            transcript::{Amendment, CANCELLED, Promise, Transcript},
        },
        room::{Room, RoomSettings},
    },
};

use super::{
    Draws, Revealed, Sale, fetch,
    kept::{self, Promised},
    terms::Terms,
};
use crate::{
    control::Control,
    keys::random,
    metrics::gauges,
    state::{Active, Shared},
    store::{Batch, StoreError},
};

/// An operator is told again after this long, milliseconds.
const TELL_EVERY_MS: u64 = 30_000;

/// Reserved entries that nobody hands to the disk are void this long after the list closed, milliseconds: longer than any
/// call budget of the store.
const GIVE_UP_AFTER_MS: u64 = 20_000;

/// A list that is frozen in memory and not yet on the disk.
pub(super) struct Freezing {
    window: u64,
    frozen: Frozen,
    batch: Batch,
}

/// Why a step could not be made now. It is tried again.
pub(super) enum Waits {
    /// Nothing to do yet.
    Quietly,
    /// An operator should know.
    For(String),
}

impl From<StoreError> for Waits {
    fn from(e: StoreError) -> Self {
        Waits::For(format!("the disk: {e}"))
    }
}

impl From<std::io::Error> for Waits {
    fn from(e: std::io::Error) -> Self {
        Waits::For(format!("the directory of draws: {e}"))
    }
}

/// Every draw of the policy in force.
pub(super) async fn all(control: &Control) {
    let shared = &control.shared;
    let active = shared.active.load_full();
    let draws = &shared.draws;
    for room in active.pipeline.rooms() {
        for draw in room.draws() {
            let mut sale = draws.sales.lock().remove(draw.sale_id()).unwrap_or_default();
            let outcome = Step { shared, active: &active, draws, room, draw }.run(&mut sale).await;
            let stuck = matches!(outcome, Err(Waits::For(_)));
            control.metrics.gauge(gauges::DRAW_STUCK, &[("sale", draw.sale_id())], f64::from(u8::from(stuck)));
            if let Err(Waits::For(what)) = outcome {
                let now_ms = shared.clock.now().mono_ms();
                if sale.told_ms.is_none_or(|t| now_ms >= t + TELL_EVERY_MS) {
                    tracing::warn!(sale = draw.sale_id(), "the draw waits: {what}");
                    sale.told_ms = Some(now_ms);
                }
            }
            draws.sales.lock().insert(draw.sale_id().to_owned(), sale);
        }
    }
}

struct Step<'a> {
    shared: &'a Shared,
    active: &'a Active,
    draws: &'a Draws,
    room: &'a Room,
    draw: &'a SaleDraw,
}

impl Step<'_> {
    async fn run(&self, sale: &mut Sale) -> Result<(), Waits> {
        if self.draw.is_retired() {
            return Ok(());
        }
        if self.draw.pledged().is_none() {
            // What is known is of a promise that gave way to this one.
            *sale = Sale { told_ms: sale.told_ms, ..Sale::default() };
        }
        let last = match sale.last {
            Some(last) => last,
            None => {
                let last = self.promise().await?;
                *sale.last.insert(last)
            }
        };
        self.amend(last).await?;
        loop {
            let now = self.shared.clock.now();
            let number = sale.next;
            if number >= self.draw.window_count() || now.wall_ms < self.draw.window_ends_ms(number) {
                return Ok(());
            }
            let secret = earlier_by(&last, self.draw.window_count() - 1 - number);
            let promise = self.draws.promise(self.draw, number, secret).ok_or(Waits::Quietly)?;
            if let Some(window) = self.frozen(sale, &promise, number, now).await? {
                self.drawn(window, &promise, now).await?;
            }
            sale.next += 1;
            sale.told_ms = None;
        }
    }

    /// The promise: the one on the disk, or a new one that is on the disk before anybody is told. Before the first entry, what
    /// the policy says now is promised anew, under a secret of its own.
    async fn promise(&self) -> Result<[u8; 32], Waits> {
        let (store, id, policy) = (&*self.shared.store, self.draw.sale_id(), &self.active.policy);
        let written = policy.sales.iter().find(|s| s.name == id).ok_or(Waits::Quietly)?;
        let terms = Terms::of(policy, self.room.settings(), written, self.draws.signer.public_key()).map_err(Waits::For)?;
        let relied_on = !kept::entered(store, id)?.is_empty() || !kept::lists(store, id)?.is_empty();
        let stored = kept::promise(store, id)?;
        let (promised, last) = match stored.clone() {
            Some(Promised { rules_json, last, schedule }) if relied_on => {
                (Terms { rules_json, schedule: schedule.unwrap_or_else(|| terms.schedule.clone()) }, last)
            }
            Some(Promised { rules_json, last, schedule: Some(schedule) })
                if rules_json == terms.rules_json && schedule == terms.schedule =>
            {
                (terms.clone(), last)
            }
            _ => (terms.clone(), random().map_err(|e| Waits::For(e.to_string()))?),
        };
        if let Some(why) = promised.cannot_be_drawn_as(&terms) {
            return Err(Waits::For(why));
        }
        if stored.as_ref() != Some(&promised.kept(last)) {
            let mut batch = Batch::new();
            kept::put_promise(&mut batch, id, &promised.kept(last));
            store.commit(batch).durable().await?;
        }
        self.draw.hold_to(promised.schedule.prequeue_opens_ms, promised.schedule.list_ends_ms);
        self.draws.terms.lock().insert(id.to_owned(), promised.clone());
        self.pledge(&promised, last, written.cancelled.as_deref())?;
        Ok(last)
    }

    /// Tells what was promised and puts back what the disk knows of the draw.
    fn pledge(&self, promised: &Terms, last: [u8; 32], cancelled: Option<&str>) -> Result<(), Waits> {
        let (store, id) = (&*self.shared.store, self.draw.sale_id());
        let first = earlier_by(&last, self.draw.window_count() - 1);
        let rules = rules_hash(&promised.rules_json);
        let promise = Promise {
            sale_id: id.into(),
            window: None,
            commitment: commitment(id, &rules, &first),
            rules_json: promised.rules_json.clone(),
            rules,
            secret: first,
        };
        self.draw.pledge(&promise, self.draws.signer.public_key(), self.draws.entry_key);
        let entries = kept::restore_entries(store, self.draw)?;
        for (window, listed) in kept::lists(store, id)? {
            let Some(list) = self.draw.window_or_new(u64::from(window)) else { continue };
            list.register.close();
            let weights = kept::weights(store, id, window)?;
            if !self.draw.is_cancelled() {
                self.room.reserve_places_at(listed.base, listed.count);
            }
            self.draw.freeze(list, Frozen::of(list, listed.list, weights, listed.base, listed.count, listed.census));
        }
        let mut amended = kept::amendments(store, id)?;
        let known = amended.len();
        if let Some(why) = cancelled.filter(|_| entries > 0 && !amended.iter().any(|a| a.cancels().is_some())) {
            // Called off while the gate was stopped.
            let at_s = self.shared.clock.now().wall_ms / 1_000;
            let text = format!("{CANCELLED}{why}");
            amended.push(Amendment::sign(&self.draws.signer, id, &promise.commitment, at_s, &text));
        }
        self.draws.amendments.lock().insert(id.to_owned(), (amended, known));
        self.draw.open();
        tracing::info!(sale = id, entries, commitment = %tidegate_filters::seats::draw::digest::hex(&promise.commitment), "draw promised");
        Ok(())
    }

    /// Amendments that are not on the disk yet.
    async fn amend(&self, last: [u8; 32]) -> Result<(), Waits> {
        let id = self.draw.sale_id();
        let (mut batch, mut count) = (Batch::new(), 0);
        if let Some((list, kept)) = self.draws.amendments.lock().get(id) {
            count = list.len();
            list.iter().enumerate().skip(*kept).for_each(|(n, a)| kept::put_amendment(&mut batch, id, n, a));
        }
        if !batch.is_empty() {
            if let Some(terms) = self.draws.terms.lock().get(id) {
                kept::put_promise(&mut batch, id, &terms.kept(last));
            }
            self.shared.store.commit(batch).durable().await?;
            if let Some((_, kept)) = self.draws.amendments.lock().get_mut(id) {
                *kept = count;
            }
            self.publish_again()?;
        }
        Ok(())
    }

    /// What was revealed before an amendment carries it, too.
    fn publish_again(&self) -> Result<(), Waits> {
        let id = self.draw.sale_id();
        let revealed: Vec<_> =
            self.draws.revealed.read().iter().filter(|(k, _)| k.0 == id).map(|(k, r)| (k.clone(), r.clone())).collect();
        for (key, old) in revealed {
            let mut transcript = old.transcript.clone();
            transcript.amendments = self.draws.amendments(id);
            publish(&old.file, &as_text(&transcript))?;
            let new = Revealed { transcript, entries: old.entries.clone(), file: old.file.clone() };
            self.draws.revealed.write().insert(key, Arc::new(new));
        }
        Ok(())
    }

    /// The frozen list of a window; `None` for an empty window of a chain.
    async fn frozen(&self, sale: &mut Sale, promise: &Promise, number: u64, now: Now) -> Result<Option<&Window>, Waits> {
        let window = self.draw.window_or_new(number).ok_or(Waits::Quietly)?;
        if window.frozen().is_some() {
            return Ok(Some(window));
        }
        if !window.register.close() {
            if now.wall_ms >= self.draw.window_ends_ms(number).saturating_add(GIVE_UP_AFTER_MS) {
                tracing::warn!(
                    sale = promise.draw_id(),
                    void = window.register.give_up(),
                    "entries were never handed to the disk"
                );
            }
            return Err(Waits::Quietly);
        }
        if self.draw.is_chained() && window.register.taken() == 0 {
            return Ok(None);
        }
        // Whoever came last has yet to load what the page names.
        let rules = rules_of(promise)?;
        if now.wall_ms < self.draw.window_ends_ms(number).saturating_add(rules.weights.wait_ms()) {
            return Err(Waits::Quietly);
        }
        if sale.freezing.as_ref().is_none_or(|f| f.window != number) {
            sale.freezing = Some(self.freeze(window, promise, rules, number, now)?);
        }
        let Some(freezing) = sale.freezing.as_ref() else { return Err(Waits::Quietly) };
        self.shared.store.commit(freezing.batch.clone()).durable().await?;
        if let Some(freezing) = sale.freezing.take() {
            tracing::info!(
                sale = promise.draw_id(),
                n = freezing.frozen.list.n,
                round = freezing.frozen.list.round,
                "list frozen"
            );
            self.draw.freeze(window, freezing.frozen);
        }
        Ok(Some(window))
    }

    fn freeze(&self, window: &Window, promise: &Promise, rules: Rules, number: u64, now: Now) -> Result<Freezing, Waits> {
        window.register.crowd(&rules.quotas);
        let (weights, census) = (window.register.weights(&rules.weights), Census::of(&window.register, &rules.weights));
        let count = weights.iter().flatten().count() as u32;
        let base = match self.draw.is_cancelled() {
            // Nobody will stand there.
            true => 0,
            false => self.room.reserve_places(count).ok_or_else(|| Waits::For("the room has no numbers left".into()))?,
        };
        let frozen_at = now.wall_ms / 1_000;
        let rule = rules.beacon;
        let round = rule.as_ref().and_then(|r| r.round(frozen_at)).unwrap_or(0);
        let source = rule.map_or_else(String::new, |r| r.source);
        let (list, tree) = promise.freeze(&window.entries(&weights), frozen_at, &source, round, &self.draws.signer);
        let mut batch = Batch::new();
        let listed = kept::Listed { list: list.clone(), base, count, census };
        kept::put_list(&mut batch, self.draw.sale_id(), number as u32, &listed, &weights);
        Ok(Freezing { window: number, frozen: Frozen { list, weights, tree, base, count, census }, batch })
    }

    /// Draws a frozen list once its beacon has spoken, seats the drawn, publishes.
    async fn drawn(&self, window: &Window, promise: &Promise, now: Now) -> Result<(), Waits> {
        let frozen = window.frozen().ok_or(Waits::Quietly)?;
        let beacon = match frozen.list.round {
            0 => None,
            round => Some(self.round(&frozen.list.beacon_source, round, now).await?),
        };
        let entries = window.entries(&frozen.weights);
        let seed = promise.seed(&frozen.list, beacon.as_ref().map_or(&[], |b| &b.value));
        let places = places(&Drum::new(&seed).order(&entries), entries.len());
        let id = promise.draw_id();
        let directory = self.draws.directory.join(id.replace('#', "-"));
        let public_key = self.draws.signer.public_key();
        let mut transcript = promise.transcript(&frozen.list, seed, beacon, public_key, "entries.csv");
        transcript.amendments = self.draws.amendments(self.draw.sale_id());
        fs::create_dir_all(&directory)?;
        publish(&directory.join("entries.csv"), &entries::write(&entries, &places))?;
        publish(&directory.join("transcript.json"), &as_text(&transcript))?;
        window.draw(&places);
        if !self.draw.is_cancelled() {
            self.room.seat_drawn(window, frozen, now);
        }
        let revealed = Revealed { transcript, entries: directory.join("entries.csv"), file: directory.join("transcript.json") };
        let key = (self.draw.sale_id().to_owned(), window.number());
        self.draws.revealed.write().insert(key, Arc::new(revealed));
        tracing::info!(sale = id, places = frozen.count, "drawn and revealed");
        Ok(())
    }

    /// The round that counts: from the disk, from an operator, or from a relay. Checked before it is used, and on the disk
    /// before anything follows from it.
    async fn round(&self, source: &str, number: u64, now: Now) -> Result<super::BeaconRound, Waits> {
        let (store, id) = (&*self.shared.store, self.draw.sale_id());
        if let Some(round) = kept::round(store, id, number)? {
            return Ok(round);
        }
        let brought = || self.draws.rounds.lock().get(&(source.to_owned(), number)).cloned();
        let round = match brought() {
            Some(round) => round,
            None => {
                let due = tidegate_filters::seats::draw::beacon::Schedule::of(source).map_or(0, |s| s.time_of(number));
                if now.wall_ms / 1_000 < due {
                    return Err(Waits::Quietly);
                }
                self.ask(self.room.settings(), source, number)?;
                brought().ok_or(Waits::Quietly)?
            }
        };
        let mut batch = Batch::new();
        kept::put_round(&mut batch, id, &round);
        store.commit(batch).durable().await?;
        Ok(round)
    }

    fn ask(&self, settings: &RoomSettings, source: &str, number: u64) -> Result<(), Waits> {
        let BeaconSettings::Rounds(rounds) = &settings.beacon else { return Err(Waits::Quietly) };
        let missing = |why: String| {
            Waits::For(format!("round {number} of {source} is missing: {why}; the room stays closed until it is there"))
        };
        let Some(from) = &rounds.from else {
            return Err(missing("POST it to /v1/beacon on the admin listener".into()));
        };
        let round = fetch::fetch(from, source, number).map_err(missing)?;
        self.draws.bring(self.active, round).map_err(|e| missing(e.to_string()))
    }
}

/// As promised, whatever the policy says by now: it may be that of a sale that was called off.
fn rules_of(promise: &Promise) -> Result<Rules, Waits> {
    serde_json::from_str(&promise.rules_json)
        .map_err(|e| Waits::For(format!("the promised rules on the disk cannot be read: {e}")))
}

fn as_text(transcript: &Transcript) -> String {
    let text = serde_json::to_string_pretty(transcript).unwrap_or_default();
    format!("{text}\n")
}

/// A file that is there whole or not at all.
pub(crate) fn publish(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = fs::File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(draft, path)
}
