//! Looks at the shop four times a second while the crowd is there.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};

use crate::{demo::stage, live::Target, shop::Reading};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// One look.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Milliseconds since the crowd came.
    pub at_ms: u64,
    /// What the shop says.
    pub shop: Reading,
}

/// Looks until it is stopped.
#[derive(Debug)]
pub(super) struct Watch {
    looks: Arc<Mutex<Vec<Look>>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins now.
    pub(super) fn start(shop: &Target) -> Self {
        let looks = Arc::new(Mutex::new(Vec::new()));
        let (to, shop, start) = (looks.clone(), shop.clone(), Instant::now());
        let task = tokio::spawn(async move {
            let mut every = tokio::time::interval(LOOK_EVERY);
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                every.tick().await;
                let Ok((200, body)) = stage::get(&shop, "/admin/load").await else { continue };
                let Ok(reading) = serde_json::from_slice(&body) else { continue };
                let look = Look { at_ms: start.elapsed().as_millis() as u64, shop: reading };
                to.lock().unwrap_or_else(PoisonError::into_inner).push(look);
            }
        });
        Watch { looks, task }
    }

    /// What was seen.
    pub(super) fn stop(self) -> Vec<Look> {
        self.task.abort();
        std::mem::take(&mut *self.looks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What happened between two times, as far as looks were taken.
pub(super) fn between(looks: &[Look], from_ms: u64, to_ms: u64) -> Reading {
    let mut inside = looks.iter().filter(|l| (from_ms..=to_ms).contains(&l.at_ms));
    match (inside.next(), inside.next_back()) {
        (Some(first), Some(last)) => last.shop.since(&first.shop),
        _ => Reading::default(),
    }
}

/// Two looks after each other, as the interval between them: from, to (milliseconds since the crowd came), what happened.
pub(super) fn intervals(looks: &[Look]) -> impl Iterator<Item = (u64, u64, Reading)> + '_ {
    looks.windows(2).map(|w| (w[0].at_ms, w[1].at_ms, w[1].shop.since(&w[0].shop)))
}
