//! The desk where claims wait for the tick that answers them.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tidegate_filters::seats::queue::Place;
use tokio::sync::oneshot;

/// Claims that may wait at the same time; more are told to try again.
pub const CLAIMS_MAX: usize = 65_536;
/// The same place may be claimed this often at the same time (a double click, two tabs).
pub const SAME_PLACE_MAX: usize = 4;
/// How long a claim is waited for. A tick answers within five seconds.
pub const CLAIM_WAIT: Duration = Duration::from_millis(5_500);

/// Who waits for which answer. `O` is what the tick says about a place.
#[derive(Debug)]
pub struct ClaimDesk<O> {
    waiting: Mutex<HashMap<RoomPlace, Vec<oneshot::Sender<O>>>>,
}

/// Index of a room, and [`Place::to_bits`].
type RoomPlace = (usize, u64);

impl<O> Default for ClaimDesk<O> {
    fn default() -> Self {
        ClaimDesk { waiting: Mutex::default() }
    }
}

impl<O: Clone> ClaimDesk<O> {
    /// Registers before the claim is made, so that an answer cannot come too early. `None`: too many wait.
    pub fn register(&self, room: usize, place: Place) -> Option<oneshot::Receiver<O>> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= CLAIMS_MAX {
            waiting.retain(|_, who| who.iter().any(|w| !w.is_closed()));
            if waiting.len() >= CLAIMS_MAX {
                return None;
            }
        }
        let who = waiting.entry((room, place.to_bits())).or_default();
        who.retain(|w| !w.is_closed());
        if who.len() >= SAME_PLACE_MAX {
            return None;
        }
        let (tx, rx) = oneshot::channel();
        who.push(tx);
        Some(rx)
    }

    /// Gives an answer to everybody who waits for it. `false`: nobody does.
    pub fn answer(&self, room: usize, place: Place, outcome: O) -> bool {
        let who = self.waiting.lock().remove(&(room, place.to_bits()));
        who.into_iter().flatten().fold(false, |heard, waiter| waiter.send(outcome.clone()).is_ok() | heard)
    }

    /// Entries of the desk.
    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use tidegate_filters::seats::queue::Lane;

    use super::*;

    const PLACE: Place = Place { lane: Lane::Main, number: 7 };

    #[tokio::test]
    async fn everybody_who_claimed_a_place_hears_the_answer() {
        let desk = ClaimDesk::default();
        let (a, b) = (desk.register(0, PLACE).unwrap(), desk.register(0, PLACE).unwrap());
        let other_room = desk.register(1, PLACE).unwrap();
        desk.answer(0, PLACE, 5);
        assert_eq!((a.await, b.await), (Ok(5), Ok(5)));
        assert_eq!(desk.len(), 1);
        drop(other_room);
    }

    #[test]
    fn the_desk_is_bounded_and_forgets_who_left() {
        let desk = ClaimDesk::<u8>::default();
        let open: Vec<_> = (0..SAME_PLACE_MAX).map(|_| desk.register(0, PLACE).unwrap()).collect();
        assert!(desk.register(0, PLACE).is_none());
        drop(open);
        assert!(desk.register(0, PLACE).is_some());
    }
}
