//! What people are told is durable first: the answers of a tick, a walk-in's seat, that somebody left.

use std::sync::{Arc, atomic::Ordering};

use tidegate_filters::{
    pipeline::{ClaimAnswer, ClaimOutcome},
    seats::{
        room::{OnFailure, Room},
        seat::SeatRef,
    },
};

use crate::{
    state::Shared,
    store::{self, StoreError, TIME_EVERY_MS, Why, Written},
};

impl Shared {
    /// One tick of the rooms: call it every 100 ms. Answers the claims that it decided, once they are durable.
    pub fn tick(self: &Arc<Self>) {
        let active = self.active.load_full();
        let now = self.clock.now();
        let failing = self.store.trouble().is_some();
        if self.store.keeps() && now.mono_ms() >= self.time_kept_ms.load(Ordering::Relaxed) {
            self.time_kept_ms.store(now.mono_ms() + TIME_EVERY_MS, Ordering::Relaxed);
            // Nobody waits for it; the next one says the same, later.
            drop(store::keep_time(&*self.store, &self.clock));
        }
        active.pipeline.rooms().iter().for_each(|r| r.set_failing(failing));
        // A route's own limit is the operator's word and knows no exception.
        self.in_flight.tick(self.clock.mono_ns() / 1_000_000);
        let mut answers = active.pipeline.tick(now);
        for (i, room) in active.pipeline.rooms().iter().enumerate().filter(|(_, r)| r.keeps()) {
            let written = self.rooms.write(room, now, Why::Tick);
            let served: Vec<_> = answers.extract_if(.., |a| a.room == i).collect();
            if let Some(written) = written {
                let (shared, active) = (self.clone(), active.clone());
                tokio::spawn(async move { shared.written(&active.pipeline.rooms()[i], written, served).await });
            } else {
                answers.extend(served);
            }
        }
        answers.into_iter().for_each(|a| self.answer(&active.pipeline.rooms()[a.room], &a));
        self.live.tick(active.pipeline.rooms(), now);
        self.holds.tick(&active.pipeline);
    }

    /// Tells what a batch allows to be told once it is durable; takes back what it gave when it is not.
    async fn written(&self, room: &Room, written: Written, served: Vec<ClaimAnswer>) {
        let kept = written.commit.durable().await.is_ok();
        if kept {
            room.reserve(written.reserved);
        }
        // An open room goes on in memory.
        let counts = kept || room.settings().on_failure == OnFailure::OpenBounded;
        if counts {
            room.announce(written.frontier);
        }
        for mut answer in served {
            if let ClaimOutcome::Seated(seat) = answer.outcome {
                room.settle(answer.place, seat, counts);
                answer.outcome = if counts { answer.outcome } else { ClaimOutcome::Next };
            }
            self.answer(room, &answer);
        }
    }

    fn answer(&self, room: &Room, a: &ClaimAnswer) {
        // Whoever claims again is answered by a tick to come.
        let withdrawn = matches!(a.outcome, ClaimOutcome::Withdrawn(_));
        if !withdrawn && self.claims.answer(a.room, a.place, a.outcome) {
            room.heard(a.place);
        }
    }

    /// Waits until the seat of a visitor who walked in is durable. `false`: it could not be and is taken back.
    pub async fn keep_seat(&self, room: &Room, seat: SeatRef) -> bool {
        let Some(written) = room.keeps().then(|| self.rooms.write(room, self.clock.now(), Why::Answer)).flatten() else {
            return true;
        };
        if written.commit.durable().await.is_ok() || room.settings().on_failure == OnFailure::OpenBounded {
            return true;
        }
        room.take_back(seat);
        false
    }

    /// Waits until it is durable that somebody left. When it cannot be, it is written later: they are gone all the same.
    pub async fn keep_left(&self, room: &Room, left: bool) {
        if left {
            let _ = self.keep_now(room).await;
        }
    }

    /// Waits until a room is durable as it is now: an operator who is told that it stands closed must find it closed.
    pub async fn keep_now(&self, room: &Room) -> Result<(), StoreError> {
        match room.keeps().then(|| self.rooms.write(room, self.clock.now(), Why::Answer)).flatten() {
            Some(written) => written.commit.durable().await,
            None => Ok(()),
        }
    }

    /// Waits until the rooms are durable as they are: with numbers to give out before the first visit, without any at the end.
    pub async fn keep_rooms(&self, why: Why) -> Result<(), StoreError> {
        let active = self.active.load_full();
        for room in active.pipeline.rooms().iter().filter(|r| r.keeps()) {
            if why == Why::End {
                room.reserve([0, 0]);
            }
            let Some(written) = self.rooms.write(room, self.clock.now(), why) else { continue };
            let (reserved, frontier) = (written.reserved, written.frontier);
            written.commit.durable().await?;
            if why != Why::End {
                room.reserve(reserved);
                room.announce(frontier);
            }
        }
        Ok(())
    }
}
