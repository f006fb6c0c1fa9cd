//! A reserved entry becomes durable; then, and only then, the visitor gets its ticket.

use std::sync::Arc;

use tidegate_filters::{Now, seats::answer::Entered};
use tokio::sync::oneshot;

use super::kept;
use crate::{
    state::{Active, Shared},
    store::{Batch, StoreError},
};

/// Writes an entry down within the store's call budget. The waiting is done apart: a client that goes away must not leave an
/// index that is neither written nor void, or the list could never be frozen. `at`: when the room gave the index.
pub async fn enter(shared: &Arc<Shared>, active: &Arc<Active>, room: usize, entered: Entered, at: Now) -> Result<(), StoreError> {
    let (answer, done) = oneshot::channel();
    let (shared, active) = (shared.clone(), active.clone());
    tokio::spawn(async move {
        let Some(room) = active.pipeline.rooms().get(room) else { return };
        let Some(sale) = room.current_draw(at).map(|d| d.sale_id().to_owned()) else { return };
        let Entered { entry, who, class, crowded, .. } = entered;
        let mut batch = Batch::new();
        kept::put_entry(&mut batch, &sale, entry.window, entry.index, who, class, crowded);
        let outcome = shared.store.commit(batch).durable().await;
        let is_entry = room.settle_entry(&sale, &entered, outcome.is_ok(), shared.clock.now());
        let outcome = if is_entry { outcome } else { outcome.and(Err(StoreError::Closed)) };
        if outcome.is_err() {
            let mut batch = Batch::new();
            kept::take_back_entry(&mut batch, &sale, entry.window, entry.index);
            // Not waited for: what stays is void to everybody but a restart, which keeps the later entry of a person.
            drop(shared.store.commit(batch));
        }
        let _ = answer.send(outcome);
    });
    done.await.unwrap_or(Err(StoreError::Closed))
}
