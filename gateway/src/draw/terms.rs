//! What people who entered a draw were promised, held against what a policy says: at every load and at the start.
//!
//! Before the first entry another policy makes another promise; after it the promised rules count, or the sale is called off.

use std::sync::Arc;

use serde_json::Value;
use tidegate_config::{Policy, SaleSettings, Timestamp};
use tidegate_filters::{
    Now, Span,
    seats::{
        draw::live::SaleDraw,
        room::{Room, RoomSettings},
    },
};

use super::{
    Draws,
    kept::{self, Schedule},
    rules,
};
use crate::{
    state::Active,
    store::{Store, StoreError},
};

/// What a sale promises: the rules that are hashed, and what stands beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) rules_json: String,
    pub(super) schedule: Schedule,
}

/// Something that was promised otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// As the policy calls it.
    rule: String,
    promised: String,
    written: String,
}

impl Terms {
    /// What a policy says now.
    pub(super) fn of(policy: &Policy, room: &RoomSettings, sale: &SaleSettings, public_key: [u8; 32]) -> Result<Terms, String> {
        let rules_json = rules::rules_json(policy, room, &sale.name)?;
        let compiled = sale.compile(1, Span(0));
        let draw = SaleDraw::new(&compiled, room.freeze_before.ms(), room.order.window_ms());
        let schedule = Schedule {
            room: room.name.clone(),
            prequeue_opens_ms: compiled.prequeue_opens_ms,
            opens_ms: compiled.opens_ms,
            closes_ms: compiled.closes_ms,
            list_ends_ms: draw.window_ends_ms(0),
            freeze_before_ms: room.freeze_before.ms(),
            window_ms: room.order.window_ms(),
            public_key,
        };
        Ok(Terms { rules_json, schedule })
    }

    /// Where another differs.
    pub(super) fn differences(&self, written: &Terms) -> Vec<Difference> {
        let mut found = Vec::new();
        let rules = |t: &Terms| serde_json::from_str(&t.rules_json).unwrap_or_default();
        compare("", &rules(self), &rules(written), &mut found);
        let (was, is) = (&self.schedule, &written.schedule);
        let mut add = |rule: &str, promised: String, written: String| {
            if promised != written {
                found.push(Difference { rule: rule.into(), promised, written });
            }
        };
        add("room", was.room.clone(), is.room.clone());
        add("prequeue_opens_at", instant(was.prequeue_opens_ms), instant(is.prequeue_opens_ms));
        add("opens_at", instant(was.opens_ms), instant(is.opens_ms));
        add("closes_at", instant(was.closes_ms), instant(is.closes_ms));
        let seconds = |ms: u64| format!("{} s", ms as f64 / 1_000.0);
        add("freeze_before", seconds(was.freeze_before_ms), seconds(is.freeze_before_ms));
        add("the signing key (statement.key in `keys`)", key(was.public_key), key(is.public_key));
        found
    }

    /// Where another breaks this promise; of a cancelled sale only what its list could not be published without.
    fn broken_by(&self, written: &Terms, cancelled: bool) -> impl Iterator<Item = Difference> {
        self.differences(written).into_iter().filter(move |d| !cancelled || self.is_needed(d))
    }

    /// Why a draw that was promised so cannot be made under another schedule of windows; `None`: it can.
    pub(super) fn cannot_be_drawn_as(&self, written: &Terms) -> Option<String> {
        let (was, is) = (&self.schedule, &written.schedule);
        let chained = was.window_ms.is_some();
        let windows = |s: &Schedule| (s.window_ms, s.prequeue_opens_ms, s.closes_ms);
        let moved = was.window_ms != is.window_ms || chained && windows(was) != windows(is);
        moved.then(|| "its name was used before, for a sale with other windows; give the new sale another name".into())
    }

    /// As the disk keeps it.
    pub(super) fn kept(&self, last: [u8; 32]) -> kept::Promised {
        kept::Promised { rules_json: self.rules_json.clone(), last, schedule: Some(self.schedule.clone()) }
    }

    /// Without them the list could not even be published.
    fn is_needed(&self, d: &Difference) -> bool {
        let chained = self.schedule.window_ms.is_some();
        let moves_windows = chained && matches!(&*d.rule, "prequeue_opens_at" | "closes_at");
        matches!(&*d.rule, "order" | "room") || moves_windows || d.rule.starts_with("the signing key")
    }
}

impl Draws {
    /// Readies the draws of the policy in force for another policy: where nobody has entered and the promise would be another
    /// one, it is withdrawn, to be made anew. `Err`: the policy would change what people who entered were promised.
    pub(crate) fn give_way(&self, policy: &Policy, old: &Active, now: Now) -> Result<Vec<Arc<SaleDraw>>, String> {
        self.keep_their_word(policy, old, now)?;
        let draws = || old.pipeline.rooms().iter().flat_map(|r| r.draws().map(move |d| (r, d)));
        let mut gone: Vec<Arc<SaleDraw>> = Vec::new();
        for (_, draw) in draws().filter(|(_, d)| !d.has_entries() && !d.has_frozen()) {
            let promised = self.terms.lock().get(draw.sale_id()).cloned().filter(|_| draw.pledged().is_some());
            let found = find(policy, draw.sale_id());
            let written = found.map(|(sale, room)| Terms::of(policy, room, sale, self.signer.public_key()));
            if promised.is_some() && written.and_then(Result::ok) == promised {
                continue;
            }
            if !draw.retire(now) {
                gone.iter().for_each(|d| d.reinstate(now));
                return Err(format!(
                    "somebody is entering the draw of sale `{0}` at this moment, or its list is being closed, and the policy says otherwise than was promised; keep the promised rules of `{0}`, or give the new rules a sale of another name",
                    draw.sale_id()
                ));
            }
            gone.push(draw.clone());
        }
        Ok(gone)
    }

    /// Whether a policy keeps what people who entered the draws in force were promised; changes nothing. `Err`: what it breaks.
    pub(crate) fn keep_their_word(&self, policy: &Policy, old: &Active, now: Now) -> Result<(), String> {
        self.stay_called_off(policy)?;
        let entered = old.pipeline.rooms().iter().flat_map(|r| r.draws().map(move |d| (r, d))).filter(|(_, d)| d.has_entries());
        entered.into_iter().try_for_each(|(room, draw)| self.keeps_its_word(policy, room, draw, now))
    }

    fn keeps_its_word(&self, policy: &Policy, room: &Room, draw: &SaleDraw, now: Now) -> Result<(), String> {
        let name = draw.sale_id();
        let Some(promised) = self.terms.lock().get(name).cloned() else { return Ok(()) };
        let found = find(policy, name);
        let done = found.is_none_or(|(s, _)| s.cancelled.is_some() || s.closes_at.unix_ms() <= now.wall_ms);
        if done && room.draw_is_over(name, now) {
            return Ok(());
        }
        let Some((sale, settings)) = found else {
            return Err(format!(
                "people have entered the draw of sale `{name}`; keep the sale and its room until it is over, or call it off with `cancelled: REASON`"
            ));
        };
        let written = Terms::of(policy, settings, sale, self.signer.public_key())?;
        let cancelled = sale.cancelled.is_some();
        let chained = promised.schedule.window_ms.is_some();
        if !cancelled && !chained && written.schedule.opens_ms < promised.schedule.list_ends_ms {
            return Err(format!(
                "people have entered the draw of sale `{name}`, and it would open ({}) before its list closes ({}, `freeze_before` the opening that was promised); write an instant after that, or give the new schedule a sale of another name",
                instant(written.schedule.opens_ms),
                instant(promised.schedule.list_ends_ms)
            ));
        }
        // The list closes when it was promised to; the sale may open later, which is amended.
        let amended = |d: &Difference| !chained && matches!(&*d.rule, "opens_at" | "closes_at");
        let broken: Vec<_> = promised.broken_by(&written, cancelled).filter(|d| !amended(d)).collect();
        match broken.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "people have entered the draw of sale `{name}`, and its published rules would change: {}; give the new rules a sale of another name",
                listed(&broken)
            )),
        }
    }

    /// Before a gate starts: every promise on the disk that somebody relies on, against the policy. `Err`: what to do.
    pub(crate) fn check_kept(&self, store: &dyn Store, policy: &Policy, now: Now) -> Result<(), Broken> {
        self.stay_called_off(policy).map_err(Broken::Promise)?;
        let mut names = kept::promised_sales(store)?;
        names.extend(policy.sales.iter().map(|s| s.name.clone()));
        names.sort_unstable();
        names.dedup();
        for name in names {
            let Some(promised) = kept::promise(store, &name)? else { continue };
            let entered = kept::entered(store, &name)?;
            let lists = kept::lists(store, &name)?;
            let n: u64 = entered.values().sum();
            let frozen = lists.iter().any(|(_, l)| l.count > 0);
            if n == 0 && !frozen {
                continue;
            }
            let called_off = kept::amendments(store, &name)?.iter().any(|a| a.cancels().is_some());
            let found = find(policy, &name);
            let ended = called_off || promised.schedule.as_ref().is_some_and(|s| s.closes_ms <= now.wall_ms);
            let done = found.is_none_or(|(s, _)| s.cancelled.is_some() || s.closes_at.unix_ms() <= now.wall_ms);
            let published = || entered.keys().all(|w| self.is_published(&name, *w, promised.schedule.as_ref()));
            if ended && done && published() {
                continue;
            }
            self.check_one(policy, &name, promised)
                .map_err(|why| Broken::Promise(format!("people have entered the draw of sale `{name}` ({n} entries): {why}")))?;
        }
        Ok(())
    }

    fn check_one(&self, policy: &Policy, name: &str, promised: kept::Promised) -> Result<(), String> {
        let Some((sale, room)) = find(policy, name) else {
            return Err(format!(
                "promised sale `{name}`, written no such sale in a room of this policy; put the sale and its room back (a renamed sale gets its old name), or call it off there with `cancelled: REASON`; another sale may draw again with `redraws: {name}`"
            ));
        };
        let written = Terms::of(policy, room, sale, self.signer.public_key())?;
        // An older version kept no schedule.
        let schedule = promised.schedule.unwrap_or_else(|| written.schedule.clone());
        let promised = Terms { rules_json: promised.rules_json, schedule };
        let cancelled = sale.cancelled.is_some();
        let broken: Vec<_> = promised.broken_by(&written, cancelled).collect();
        match (broken.is_empty(), cancelled) {
            (true, _) => Ok(()),
            (false, false) => Err(format!(
                "{}; restore what was promised, or call the sale off with `cancelled: REASON` (its list is then published all the same) and draw again in a sale of another name with `redraws: {name}`. Opening and end move while the gate runs: that signs an amendment",
                listed(&broken)
            )),
            (false, true) => {
                Err(format!("{}; a cancelled sale keeps these, so that its list can be published: restore them", listed(&broken)))
            }
        }
    }

    fn is_published(&self, sale: &str, window: u32, schedule: Option<&Schedule>) -> bool {
        let chained = schedule.is_some_and(|s| s.window_ms.is_some());
        let name = if chained { format!("{sale}-{window}") } else { sale.to_owned() };
        self.directory.join(name).join("transcript.json").exists()
    }
}

/// Why a gate does not start.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The policy says otherwise than was promised.
    Promise(String),
    /// The disk.
    Store(StoreError),
}

impl From<StoreError> for Broken {
    fn from(e: StoreError) -> Self {
        Broken::Store(e)
    }
}

fn find<'a>(policy: &'a Policy, sale: &str) -> Option<(&'a SaleSettings, &'a RoomSettings)> {
    let sale = policy.sales.iter().find(|s| s.name == sale)?;
    Some((sale, policy.rooms.iter().find(|r| r.name == sale.room)?))
}

fn listed(differences: &[Difference]) -> String {
    let one = |d: &Difference| format!("{}: promised {}, written {}", d.rule, d.promised, d.written);
    differences.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// For people.
pub(crate) fn instant(ms: u64) -> String {
    Timestamp::from_unix_ms(ms).map_or_else(|| ms.to_string(), |t| t.to_string())
}

fn key(bytes: [u8; 32]) -> String {
    crate::keys::hex(&bytes)
}

/// Goes down as far as both are objects.
fn compare(path: &str, promised: &Value, written: &Value, found: &mut Vec<Difference>) {
    if let (Value::Object(was), Value::Object(is)) = (promised, written)
        && (path.is_empty() || path != "identity")
    {
        let mut names: Vec<_> = was.keys().chain(is.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for name in names {
            // This one is left out where it is 0, and may be left out of a policy where it is not.
            let left_out = if name == "crowd_times" { Value::from(0) } else { Value::Null };
            let of = |side: &serde_json::Map<String, Value>| side.get(name).cloned().unwrap_or_else(|| left_out.clone());
            compare(&below(name), &of(was), &of(is), found);
        }
    } else if promised != written {
        let (promised, written) = (said(promised), said(written));
        found.push(Difference { rule: in_policy(path), promised, written });
    }
}

fn said(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a hashed rule is called where it is written.
fn in_policy(path: &str) -> String {
    match path {
        "identity" => "visitor.key".into(),
        "model_sha256" => "bot_gate.model (SHA-256)".into(),
        "beacon.delay_s" => "beacon.delay (s)".into(),
        "quotas.crowd_times" => "visitor.crowd_times".into(),
        "quotas.per_network" => "visitor.entries_per_network".into(),
        "quotas.per_fingerprint" => "visitor.entries_per_fingerprint".into(),
        _ => match path.split_once('.') {
            Some(("class_thresholds", name)) => format!("bot_gate.{name}"),
            Some(("quotas", name)) => format!("visitor.{name}"),
            _ => path.into(),
        },
    }
}
