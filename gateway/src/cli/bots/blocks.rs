//! Rows of a journal, scored again in blocks: a runtime takes thousands at once far faster than one by one.

use tidegate_filters::{Row, rule::bot_gate::Runtime};
use tidegate_models::{Blocks, features::N, tune::Book};

use super::{Failure, fail, note, tried};

/// Rows scored together: about 8 MiB of rows, and enough to keep a device busy.
pub(in crate::cli) const BLOCK_ROWS: usize = 8_192;

/// Opens `builtin`, or a file that was tried in a process of its own first. A device that cannot be used is a note.
pub(in crate::cli) fn open(model: &str, runtime: Runtime) -> Result<Blocks, Failure> {
    tried(model, runtime)?;
    let blocks = Blocks::open(model, runtime).map_err(|e| fail(Failure::Usage, &e.to_string()))?;
    if let Some(why) = blocks.warning() {
        note(&format!("warning: {why}"));
    }
    Ok(blocks)
}

/// Gives rows to a book with what a model says about them.
pub(super) struct Rescored {
    model: Blocks,
    rows: Vec<Row>,
    features: Vec<f32>,
}

impl Rescored {
    pub(super) fn by(model: Blocks) -> Self {
        Rescored { model, rows: Vec::with_capacity(BLOCK_ROWS), features: Vec::with_capacity(BLOCK_ROWS * N) }
    }

    pub(super) fn take(&mut self, row: Row, book: &mut Book) {
        if row.features.len() == N {
            self.features.extend_from_slice(&row.features);
        }
        self.rows.push(row);
        if self.rows.len() == BLOCK_ROWS {
            self.flush(book);
        }
    }

    /// Those that wait for a block to be full, too.
    pub(super) fn flush(&mut self, book: &mut Book) {
        let mut scores = self.model.scores(&self.features).into_iter();
        for row in self.rows.drain(..) {
            let score = if row.features.len() == N { scores.next().flatten() } else { None };
            book.take(&row, Some(&|_: &[f32]| score));
        }
        self.features.clear();
    }
}
