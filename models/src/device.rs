//! What runs blocks of rows, and the CPU that takes over when it fails.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::session::{RunError, Session, panic_text};

/// Runs blocks of rows; one thread at a time.
pub trait Device: Send {
    /// One number a row in `out`, unchecked. A device that fails, panics or gives another number of scores is given up.
    fn run_block(&mut self, rows: &[f32], out: &mut Vec<f32>) -> Result<(), RunError>;

    /// Called once, by the thread that will run blocks, before anybody waits for one.
    fn warm(&mut self) -> Result<(), RunError> {
        Ok(())
    }
}

impl Device for Session {
    fn run_block(&mut self, rows: &[f32], out: &mut Vec<f32>) -> Result<(), RunError> {
        Session::run_block(self, rows, out)
    }

    fn warm(&mut self) -> Result<(), RunError> {
        Session::warm(self)
    }
}

/// A device with the CPU behind it: what the one fails to do, the other does, and from then on alone.
pub(crate) struct Backed {
    device: Option<Box<dyn Device>>,
    cpu: Session,
    width: usize,
    /// Why the device was given up.
    pub(crate) lost: Option<String>,
}

impl Backed {
    pub(crate) fn new(device: Option<Box<dyn Device>>, mut cpu: Session, width: usize) -> Self {
        cpu.prove_blocks();
        Backed { device, cpu, width, lost: None }
    }

    /// Whether a device is there and works.
    pub(crate) fn on_device(&self) -> bool {
        self.device.is_some()
    }

    /// See [`Device::warm`]; the error says why there is no device.
    pub(crate) fn warm(&mut self) -> Result<(), String> {
        let Some(device) = &mut self.device else { return Ok(()) };
        let warm = catch_unwind(AssertUnwindSafe(|| device.warm()));
        let warm = warm.unwrap_or_else(|payload| Err(RunError::Panicked(panic_text(payload.as_ref()))));
        warm.map_err(|e| {
            self.forget();
            e.to_string()
        })
    }

    /// One number a row in `out`, unchecked.
    pub(crate) fn run_block(&mut self, rows: &[f32], out: &mut Vec<f32>) -> Result<(), RunError> {
        let Some(device) = &mut self.device else { return self.cpu.run_block(rows, out) };
        let want = rows.len() / self.width;
        let why = match catch_unwind(AssertUnwindSafe(|| device.run_block(rows, out))) {
            Ok(Ok(())) if out.len() == want => return Ok(()),
            Ok(Ok(())) => format!("{} scores for {want} rows", out.len()),
            Ok(Err(e)) => e.to_string(),
            Err(payload) => format!("it panicked: {}", panic_text(payload.as_ref())),
        };
        self.forget();
        self.lost = Some(why);
        self.cpu.run_block(rows, out)
    }

    /// Cleaning up after a broken device may hang, or take the process with it.
    fn forget(&mut self) {
        if let Some(broken) = self.device.take() {
            mem::forget(broken);
        }
    }
}
