//! What happens beside the requests: rooms tick, the planner looks at the shop and plans.

use rand::Rng as _;
use tidegate_filters::pipeline::{ClaimAnswer, ClaimOutcome};

use super::{
    SECOND_US, Sim, TICK_US,
    gate::{Gate, Ruling},
    trouble,
};
use crate::checkers::What;

impl Sim<'_> {
    pub(super) fn tick(&mut self, now_us: u64) {
        for answer in self.gate.tick(now_us) {
            let asked: Vec<_> = self.claims.iter().filter(|c| (c.0, c.1) == (answer.room, answer.place)).copied().collect();
            self.gate.answered(now_us, &answer, !asked.is_empty());
            self.claims.retain(|c| (c.0, c.1) != (answer.room, answer.place));
            for (room, _, client, serial) in asked {
                let (a, gift) = match answer.outcome {
                    ClaimOutcome::Seated(seat) => match self.gate.seated(now_us, room, seat) {
                        Ruling::Answer(a, gift) => (a, gift),
                        _ => continue,
                    },
                    ClaimOutcome::Next | ClaimOutcome::Withdrawn(_) => (self.gate.next(), None),
                };
                self.deliver(now_us, client, serial, a, gift);
            }
        }
    }

    /// What the planner's thread does beside the rooms' ticks.
    pub(super) fn look(&mut self, now_us: u64) {
        if now_us == 0 {
            return;
        }
        let window = self.backend.take_window(TICK_US);
        let whole = now_us.is_multiple_of(SECOND_US);
        let limit = if whole { self.gate.second(now_us, &window) } else { self.gate.look(&window) };
        self.backend.set_limit(limit);
        if whole {
            self.forge(now_us);
        }
    }

    fn forge(&mut self, now_us: u64) {
        if !self.chance(self.world.habits.forge) {
            return;
        }
        let who = self.rng.random_range(0..self.clients.len());
        let jar = &self.clients[who].jar;
        let texts: Vec<String> = jar.tickets.iter().chain(&jar.passes).flatten().cloned().collect();
        for text in texts {
            trouble::forge(&text, &mut self.rng, &self.foreign, &mut self.gate, now_us);
        }
    }
}

impl Gate {
    /// An answer of a tick; `heard`: its claim waited for it.
    fn answered(&mut self, at_us: u64, a: &ClaimAnswer, heard: bool) {
        let place = a.place;
        let what = match a.outcome {
            ClaimOutcome::Seated(seat) if heard => What::Seated { place: Some(place), seat },
            ClaimOutcome::Seated(seat) => What::Kept { place, seat },
            ClaimOutcome::Next => What::Next(place),
            ClaimOutcome::Withdrawn(seat) => What::Withdrawn { place, seat },
        };
        if heard {
            self.pipeline.rooms()[a.room].heard(place);
        }
        self.add(at_us, a.room, what);
    }
}
