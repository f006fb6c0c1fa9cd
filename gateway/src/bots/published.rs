//! Lists and keys that others publish: asked for beside the requests, and kept on the disk for the next start.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tidegate_config::Policy;
use tidegate_filters::{
    FilterSettings,
    rule::good_bots::{GoodBotsSettings, is_published},
};
use tokio::sync::watch;

use super::{fetch, lists};
use crate::{control::Control, counts::Count, draw::publish};

/// One that failed is tried again after this long, milliseconds, then after twice as long, at most after `refresh`.
const RETRY_MS: u64 = 60_000;
/// Longest reason that is written to the log.
const WHY_CHARS_MAX: usize = 300;
/// How often it is looked at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was fetched, by address; no more than the policy names.
#[derive(Debug, Default)]
pub struct Published {
    lists: Mutex<BTreeMap<String, List>>,
    fetched: Count,
    failed: Count,
}

/// One of them.
#[derive(Debug, Default)]
struct List {
    text: Option<Arc<str>>,
    due_ms: u64,
    failures: u32,
}

/// How a list is used.
#[derive(Clone, Copy)]
enum Use {
    Networks,
    Keys,
}

impl Use {
    fn check(self, text: &str) -> Result<(), String> {
        match self {
            Use::Networks => lists::networks(text).map(drop),
            Use::Keys => lists::directory(text).map(drop),
        }
    }
}

impl Published {
    /// Fetches as `(outcome, count)`.
    pub fn fetches(&self) -> [(&'static str, u64); 2] {
        [("good", self.fetched.get()), ("failed", self.failed.get())]
    }

    /// Lists by how they stand: `fresh`, `old` (the last fetch failed) and `missing` (never had).
    pub fn states(&self) -> [(&'static str, usize); 3] {
        let lists = self.lists.lock();
        let count = |f: fn(&List) -> bool| lists.values().filter(|l| f(l)).count();
        [
            ("fresh", count(|l| l.text.is_some() && l.failures == 0)),
            ("old", count(|l| l.text.is_some() && l.failures > 0)),
            ("missing", count(|l| l.text.is_none())),
        ]
    }

    /// What was fetched last, by this process or one before it. `None`: nothing yet.
    pub(super) fn text(&self, url: &str, kept_in: Option<&Path>) -> Option<Arc<str>> {
        let mut lists = self.lists.lock();
        let list = lists.entry(url.to_owned()).or_default();
        if list.text.is_none() {
            list.text = kept_in.and_then(|d| lists::read(&file(d, url).display().to_string()).ok()).map(Into::into);
        }
        list.text.clone()
    }

    /// Asks again at once: whoever loads a policy again may have mended the way there, or heard of another list.
    pub fn ask_again(&self) {
        for list in self.lists.lock().values_mut() {
            list.due_ms = 0;
            list.failures = list.failures.min(1);
        }
    }

    fn is_due(&self, url: &str, now_ms: u64) -> bool {
        self.lists.lock().get(url).is_none_or(|l| now_ms >= l.due_ms)
    }

    /// Whether it is another text than before.
    fn came(&self, url: &str, text: &str, due_ms: u64) -> bool {
        self.fetched.add();
        let mut lists = self.lists.lock();
        let list = lists.entry(url.to_owned()).or_default();
        let news = list.text.as_deref() != Some(text);
        *list = List { text: Some(text.into()), due_ms, failures: 0 };
        news
    }

    fn failed(&self, url: &str, why: &str, now_ms: u64, refresh_ms: u64) {
        self.failed.add();
        let mut lists = self.lists.lock();
        let list = lists.entry(url.to_owned()).or_default();
        let wait_ms = (RETRY_MS << list.failures.min(10)).min(refresh_ms);
        list.failures = list.failures.saturating_add(1);
        list.due_ms = now_ms + wait_ms;
        let meanwhile = match list.text {
            Some(_) => "the last list stays in use",
            None => "until it is there nobody is an impostor of this bot, and nobody is it",
        };
        let why: String = why.chars().take(WHY_CHARS_MAX).collect();
        tracing::warn!(url, why, again_in_s = wait_ms / 1_000, "a published list cannot be fetched; {meanwhile}");
    }

    /// Forgets what no policy names any more.
    fn keep_only(&self, wanted: &[(&str, Use)]) {
        self.lists.lock().retain(|url, _| wanted.iter().any(|(w, _)| w == url));
    }
}

/// Where lists are kept over a restart; `None` in a policy without `state`.
pub(super) fn directory(policy: &Policy) -> Option<PathBuf> {
    policy.state.as_ref().map(|s| s.directory.join("published"))
}

fn file(directory: &Path, url: &str) -> PathBuf {
    let digest = Sha256::digest(url);
    let name: String = digest.iter().take(12).map(|b| format!("{b:02x}")).collect();
    directory.join(name + ".txt")
}

/// Asks for what is due until the gate stops.
pub async fn run(control: Arc<Control>, mut stop: watch::Receiver<bool>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            biased;
            _ = stop.changed() => return,
            () = async {
                look.tick().await;
                fetch_due(&control).await;
            } => {}
        }
    }
}

async fn fetch_due(control: &Control) {
    let (shared, policy) = (&control.shared, control.shared.active.load_full());
    let settings = policy.policy.filters.iter().find_map(|f| match f {
        FilterSettings::GoodBots(s) => Some(s),
        _ => None,
    });
    let wanted: Vec<_> = settings.into_iter().flat_map(wanted).collect();
    let published = &shared.facts.bots.published;
    published.keep_only(&wanted);
    let Some(settings) = settings else { return };
    let refresh_ms = settings.refresh.ms();
    let mut news = false;
    for (url, used) in wanted {
        if !published.is_due(url, shared.clock.now().mono_ms()) {
            continue;
        }
        // The authorities are read each time: a file may have been renewed.
        let asked = fetch::get(url, settings.authorities.as_deref()).await.and_then(|text| used.check(&text).map(|()| text));
        let now_ms = shared.clock.now().mono_ms();
        match asked {
            Ok(text) if published.came(url, &text, now_ms + refresh_ms) => {
                news = true;
                keep(directory(&policy.policy).as_deref(), url, &text);
            }
            Ok(_) => {}
            Err(why) => published.failed(url, &why, now_ms, refresh_ms),
        }
    }
    if news {
        control.read_bots_again();
    }
}

fn keep(directory: Option<&Path>, url: &str, text: &str) {
    let Some(directory) = directory else { return };
    let kept = fs::create_dir_all(directory).and_then(|()| publish(&file(directory, url), text));
    match kept {
        Ok(()) => tracing::info!(url, bytes = text.len(), "published list fetched"),
        Err(error) => tracing::warn!(url, %error, "a published list cannot be kept for the next start"),
    }
}

/// Every address of a policy, with what is there.
fn wanted(settings: &GoodBotsSettings) -> impl Iterator<Item = (&str, Use)> {
    settings.bots.iter().flat_map(|b| [(&b.networks_file, Use::Networks), (&b.keys, Use::Keys)]).filter_map(|(file, used)| {
        let url = file.as_deref().filter(|f| is_published(f))?;
        Some((url, used))
    })
}
