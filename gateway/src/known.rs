//! What is known for sure about a visit: facts come before scores. Where the policy asks for none of it, nothing is looked up.

use std::{borrow::Cow, sync::Arc};

use tidegate_filters::{Bot, Filter, Known, Now, Pipeline, VisitorId, rule::honeypot::Honeypot};

use crate::{
    bots::{BotFacts, Claim, GoodBots, Signed},
    client,
    head::Fields,
    intake::Intake,
    remembered::Remembered,
    state::Shared,
};

/// Visitors of honeypots remembered, at most 3.2 MiB; the oldest are forgotten first.
pub const TRAPPED_MAX: usize = 1 << 16;

/// What is remembered about visitors over reloads, not over a restart.
#[derive(Debug)]
pub struct Facts {
    trapped: Remembered<()>,
    /// About programs that are welcome.
    pub bots: Arc<BotFacts>,
}

impl Default for Facts {
    fn default() -> Self {
        Facts { trapped: Remembered::new(TRAPPED_MAX), bots: Arc::default() }
    }
}

impl Facts {
    /// Visitors of honeypots that are remembered.
    pub fn trapped(&self) -> usize {
        self.trapped.count()
    }

    /// A visitor who is trapped has another name from now on.
    pub fn renamed(&self, pipeline: &Pipeline, known: Known, name: VisitorId, now: Now) {
        if let Some(pot) = honeypot(pipeline).filter(|_| known.trapped) {
            self.trapped.put(name.0, (), now.mono_ms() + pot.settings().remember.ms());
        }
    }

    /// Who asks for a path that nobody finds is remembered, with and without the cookie.
    fn trap(&self, pot: &Honeypot, intake: &Intake, hash_key: (u64, u64), now: Now) {
        let until = now.mono_ms() + pot.settings().remember.ms();
        for name in [intake.visitor, intake.without_cookie(hash_key)].into_iter().flatten() {
            self.trapped.put(name.0, (), until);
        }
    }
}

/// Finds out what is known about a visit; in words for the journal.
pub fn find(shared: &Shared, pipeline: &Pipeline, fields: &Fields<'_>, intake: &mut Intake, now: Now) -> Cow<'static, str> {
    let mut words = Words::default();
    intake.known.granted = intake.visitor.is_some_and(|v| shared.appeals.lets_through(v, now.wall_ms));
    if let Some(bots) = &*shared.bots.load() {
        good_bot(shared, bots, fields, intake, now, &mut words);
    }
    if let Some(pot) = honeypot(pipeline).filter(|_| intake.known.bot != Bot::Good) {
        let fell = pot.covers(&intake.path) && !intake.prefetch && client::came_by_itself(fields, &intake.authority);
        if fell {
            shared.facts.trap(pot, intake, shared.hash_key, now);
            words.say("honeypot");
        }
        let before = || intake.visitor.is_some_and(|v| shared.facts.trapped.get(v.0, now.mono_ms()).is_some());
        intake.known.trapped = fell || before();
        if intake.known.trapped && !fell {
            words.say("trapped");
        }
    }
    words.0
}

/// A signature is as good as an address; a bad one is as if there were none.
fn good_bot(shared: &Shared, bots: &GoodBots, fields: &Fields<'_>, intake: &mut Intake, now: Now, words: &mut Words) {
    let query = intake.query.as_deref();
    let Intake { method, authority, https, path, .. } = &*intake;
    let signed = Signed { fields, method, authority, https: *https, path, query };
    let mut good = None;
    match bots.by_signature(&shared.facts.bots, &signed, now) {
        Some(Ok(name)) => good = Some((name, Claim::Good)),
        Some(Err(fault)) => words.say(format!("signature={}", fault.name())),
        None => {}
    }
    let by_address = || bots.by_address(&shared.facts.bots, shared.hash_key, fields, intake.network()?.0, now);
    let Some((name, claim)) = good.or_else(by_address) else { return };
    let (bot, word) = match claim {
        Claim::Good => (Bot::Good, "good_bot"),
        Claim::False => (Bot::Impostor, "false_crawler"),
        Claim::Open => (Bot::Unknown, "claims"),
    };
    words.say(format!("{word}={name}"));
    if bots.shadow && bot == Bot::Good {
        return;
    }
    intake.known.bot = bot;
    // A crawler never gets a place; who only says to be one waits like a person, at the back.
    intake.probe = match bot {
        Bot::Impostor if !bots.shadow => false,
        Bot::Good => true,
        _ => intake.probe,
    };
}

fn honeypot(pipeline: &Pipeline) -> Option<&Honeypot> {
    pipeline.filters().find_map(|(f, _)| match f {
        Filter::Honeypot(pot) => Some(pot),
        _ => None,
    })
}

/// Words separated by commas; the first costs nothing.
#[derive(Default)]
struct Words(Cow<'static, str>);

impl Words {
    fn say(&mut self, word: impl Into<Cow<'static, str>>) {
        let word = word.into();
        match self.0.is_empty() {
            true => self.0 = word,
            false => self.0 = format!("{},{word}", self.0).into(),
        }
    }
}
