//! Many rows at once, on the CPU or on a CUDA device.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ort::ep;

use super::{Engine, Kind, ORT, RunError, Runner, Session, guarded, load_ort, panic_text, run_ort};
use crate::{batch::BATCH_ROWS_MAX, inspect::Inspection, opened::NO_KERNEL};

/// What ONNX Runtime may take of a device's memory. A block of 65,536 rows is 14 MiB, a layer of 1,024 units over it
/// 256 MiB; two of them, weights and room to grow fit four times that.
const DEVICE_BYTES_MAX: usize = 1 << 30;

/// Rows on which blocks are compared with single rows.
const PROBES: usize = 33;
/// They may differ by this much: sums in another order.
const AGREE: f32 = 1e-4;

/// Longest text of an error of CUDA that is passed on, characters: it can list every folder that was searched.
const WHY_MAX: usize = 400;

impl Engine {
    /// The same for blocks: what a plain network gains row by row, ONNX Runtime gains several times over with many.
    pub fn for_blocks(&self) -> Engine {
        Engine { kind: self.kind.clone(), direct: self.direct && matches!(self.kind, Kind::Tract) }
    }

    /// Loads a model that was inspected on the CUDA device (the first that `CUDA_VISIBLE_DEVICES` leaves), and compares it
    /// with `cpu`. The error says why there is none.
    pub fn load_on_cuda(&self, bytes: &[u8], model: &Inspection, cpu: &mut Session) -> Result<Session, String> {
        let Kind::Ort(loaded) = &self.kind else { return Err("the built-in runtime runs on the CPU alone".into()) };
        if let Some(op) = model.operators.iter().find(|o| o.starts_with("TreeEnsemble") || o.starts_with("SVM")) {
            return Err(format!("{NO_KERNEL}`{op}`, which ONNX Runtime computes on the CPU whatever device there is"));
        }
        // Factors of ten bits, the default, would put scores beside a threshold on its other side.
        let cuda = ep::CUDA::default().with_memory_limit(DEVICE_BYTES_MAX).with_tf32(false).build().error_on_failure();
        let loaded = guarded(ORT, || load_ort(&loaded.0, bytes, Some(cuda))).map_err(|e| in_one_line(&e.to_string()))?;
        let (width, output) = (model.features, model.output);
        let mut session = Session { runner: Runner::Ort(Box::new(loaded)), width, output, one_by_one: false };
        session.agrees_with(cpu).map_err(|why| in_one_line(&why))?;
        // What does not fit is known now. The thread that runs batches warms it for all sizes.
        let batch = vec![0.0; BATCH_ROWS_MAX * width];
        session.run_block(&batch, &mut Vec::new()).map_err(|e| in_one_line(&format!("a full batch failed: {e}")))?;
        Ok(session)
    }
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(WHY_MAX).collect()
}

impl Session {
    /// What the model says about many rows, which lie one after the other in `rows`: one number each in `out`, unchecked.
    pub fn run_block(&mut self, rows: &[f32], out: &mut Vec<f32>) -> Result<(), RunError> {
        out.clear();
        if !rows.len().is_multiple_of(self.width) {
            return Err(RunError::Width { got: rows.len() % self.width, want: self.width });
        }
        let (n, output, one_by_one) = (rows.len() / self.width, self.output, self.one_by_one);
        if n == 0 {
            return Ok(());
        }
        let Runner::Ort(session) = &mut self.runner else { return self.each(rows, out) };
        if one_by_one {
            return self.each(rows, out);
        }
        let read = |values: &mut dyn ExactSizeIterator<Item = f32>| {
            // The score is the only number of a row, or the last of two.
            let columns = values.len() / n;
            if !(1..=2).contains(&columns) || columns * n != values.len() {
                return Err(format!("gave {} values for {n} rows", values.len()));
            }
            out.extend(values.skip(columns - 1).step_by(columns));
            Ok(())
        };
        match catch_unwind(AssertUnwindSafe(|| run_ort(session, rows, n, output, read))) {
            Ok(ran) => ran.map_err(RunError::Failed),
            Err(payload) => Err(RunError::Panicked(panic_text(payload.as_ref()))),
        }
    }

    /// Runs batches of all sizes once: what they make it load and allocate, by size and for this thread, no visit waits for.
    pub(crate) fn warm(&mut self) -> Result<(), RunError> {
        let batch = vec![0.0; BATCH_ROWS_MAX * self.width];
        (0..=BATCH_ROWS_MAX.ilog2()).try_for_each(|bits| self.run_block(&batch[..self.width << bits], &mut Vec::new()))
    }

    fn each(&mut self, rows: &[f32], out: &mut Vec<f32>) -> Result<(), RunError> {
        for row in rows.chunks_exact(self.width) {
            out.push(self.run(row)?);
        }
        Ok(())
    }

    /// Runs blocks row by row from now on, where the model cannot take more than one at a time.
    pub(crate) fn prove_blocks(&mut self) {
        let (rows, mut block) = (probes(self.width), Vec::new());
        let mut single = Vec::new();
        let proven = self.run_block(&rows, &mut block).is_ok() && self.each(&rows, &mut single).is_ok() && near(&block, &single);
        self.one_by_one = !proven;
    }

    /// Whether its blocks say what `other` says about each row.
    fn agrees_with(&mut self, other: &mut Session) -> Result<(), String> {
        let (rows, mut ours, mut theirs) = (probes(self.width), Vec::new(), Vec::new());
        self.run_block(&rows, &mut ours).map_err(|e| format!("a first block failed: {e}"))?;
        other.each(&rows, &mut theirs).map_err(|e| format!("the CPU failed: {e}"))?;
        if near(&ours, &theirs) { Ok(()) } else { Err("the device says something else than the CPU".into()) }
    }
}

/// Made-up rows that differ.
fn probes(width: usize) -> Vec<f32> {
    (0..PROBES * width).map(|i| ((i / width * 101 + i % width * 37) % 17) as f32 / 8.0 - 1.0).collect()
}

/// NaN beside NaN is the same: what is out of range is sorted out later.
fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= AGREE || a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
}
