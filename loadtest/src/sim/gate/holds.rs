//! What the gate hears of sales: by holds, and without.

use tidegate_filters::{
    Decision, Reason,
    seats::{hold::Held, ledger::Outcome, room::Entrance},
};

use super::{Gate, current};
use crate::checkers::What;

impl Gate {
    pub(in crate::sim) fn sold(&mut self, at_us: u64, entrance: Entrance, units: u32) {
        self.sales(at_us);
        let room = match entrance {
            Entrance::Inside { room, .. } | Entrance::Seated { room, .. } => room,
            Entrance::Free => 0,
        };
        let now = self.now(at_us);
        if let Some(r) = self.pipeline.rooms().get(room) {
            r.sold(units, now);
            if current(&self.settings.sales, r.name(), now).is_some() {
                self.add(at_us, room, What::Sold(units));
            }
        }
    }

    /// A pass was honoured and got no unit.
    pub(super) fn denied(&mut self, at_us: u64, entrance: Entrance, decision: Decision) -> Decision {
        if let Entrance::Inside { room, seat } = entrance {
            match decision.reason {
                Reason::AllHeld | Reason::StockGone => self.add(at_us, room, What::HoldDenied(seat)),
                Reason::VisitorLimit => self.add(at_us, room, What::HoldBarred(seat)),
                _ => {}
            }
        }
        self.entered(at_us, entrance);
        decision
    }

    /// What became of a request that went with a hold.
    pub(in crate::sim) fn hold_ended(&mut self, at_us: u64, room: usize, held: &Held, outcome: Outcome) {
        self.sales(at_us);
        held.end(outcome, self.now(at_us));
        let sold = match outcome {
            Outcome::Sold(n) => Some(n),
            Outcome::NotSold | Outcome::NotSent => Some(0),
            Outcome::Lost => None,
        };
        self.add(at_us, room, What::HoldEnded { hold: held.id.0, sold });
        self.count_units(at_us, room);
    }

    pub(super) fn count_units(&mut self, at_us: u64, room: usize) {
        if let Some(units) = self.pipeline.rooms()[room].stats(self.now(at_us)).stock {
            self.add(at_us, room, What::Units(units));
        }
    }
}
