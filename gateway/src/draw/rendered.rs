//! Whoever asks for the style of a waiting page has a browser that shows it.

use tidegate_filters::Reason;

use super::kept;
use crate::{own::room_of_query, reply::Answer, state::Shared, store::Batch, trace::Trace};

/// What is in the style of an entry that counts in full by it, and of anything else.
const COUNTS: &str = "/* A browser has asked for this: this entry counts in full in the draw. */\n";
const NOTHING: &str = "/* Nothing of yours counts by this: your browser has sent no entry in a draw whose list is open. */\n";

/// The style. It says what has come of asking for it: a browser without styles shows that.
pub fn style(shared: &Shared, trace: &mut Trace) -> Answer {
    let text = if trace.intake.method == "GET" && counts(shared, trace) { COUNTS } else { NOTHING };
    Answer { content_type: "text/css; charset=utf-8", ..Answer::text(200, "own", Reason::Own.code(), text) }
}

/// Whether it is asked for by somebody with an entry in a list that is not weighed yet, which is then written down.
fn counts(shared: &Shared, trace: &mut Trace) -> bool {
    let active = trace.active.clone();
    let Some(index) = room_of_query(trace) else { return false };
    let Some(room) = active.pipeline.rooms().get(index) else { return false };
    trace.room(index);
    let Some((sale, entry, news)) = room.rendered(&trace.intake.visit(None), shared.clock.now()) else { return false };
    if news && shared.store.keeps() {
        let mut batch = Batch::new();
        kept::put_rendered(&mut batch, sale, entry);
        // Not waited for: an answer that a crash of the same moment forgets is asked for again by the next page.
        drop(shared.store.commit(batch));
    }
    true
}
