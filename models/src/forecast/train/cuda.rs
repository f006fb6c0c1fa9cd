//! Training on an NVIDIA card. Nothing of CUDA is linked: the driver and its compiler are looked for when they are asked for, and
//! what is missing is told before the backend, which panics then, is touched.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::cubecl::cuda::install::cuda_path;
use burn_cuda::{Cuda, CudaDevice};
use cudarc::driver::result as driver;

use super::{Series, Settings, Told, TrainError, Trained, device::Place, train_on};
use crate::session::panic_text;

/// What every kernel includes; the compiler has no headers of its own.
const HEADER: &str = "include/cuda_runtime.h";

impl Place for Cuda {
    const EXACT: bool = false;
}

/// On the first card.
pub(super) fn train(series: &[Series], settings: &Settings, tell: &mut dyn FnMut(Told) -> bool) -> Result<Trained, TrainError> {
    let name = format!("cuda: {}", card()?);
    // A kernel that cannot be compiled and a card that is full are panics of the backend.
    let run = AssertUnwindSafe(|| train_on::<Cuda>(series, settings, &CudaDevice::default(), &name, tell));
    catch_unwind(run)
        .unwrap_or_else(|payload| Err(TrainError::Device(format!("{name} failed: {}", panic_text(payload.as_ref())))))
}

/// Name of the card, once all that is needed to compute on it is there.
fn card() -> Result<String, TrainError> {
    let fail = |why: &str| Err(TrainError::Device(format!("{why}; or train with --device cpu")));
    let (has_driver, has_compiler) = present();
    if !has_driver {
        return fail("there is no CUDA driver here: libcuda.so.1 is not found; install NVIDIA's driver");
    }
    let first = driver::init().and_then(|()| driver::device::get(0)).and_then(driver::device::get_name);
    let name = match first {
        Ok(name) => name,
        Err(e) => return fail(&format!("the CUDA driver gives no card: {e}; see `nvidia-smi` and CUDA_VISIBLE_DEVICES")),
    };
    if !has_compiler {
        return fail(
            "CUDA's run-time compiler is not found: libnvrtc.so.13 or .12; install it, no newer than the driver, \
             and name its folder in LD_LIBRARY_PATH",
        );
    }
    if !cuda_path().is_some_and(|p| p.join(HEADER).is_file()) {
        return fail(&format!("CUDA's headers are not found: set CUDA_PATH to the folder that has {HEADER}"));
    }
    Ok(name)
}

/// Whether the driver and the run-time compiler are there.
#[allow(unsafe_code)]
fn present() -> (bool, bool) {
    // SAFETY: loading a library runs its initialisers; those of NVIDIA's two only set themselves up, and the backend loads
    // the same two by the same names right after.
    unsafe { (cudarc::driver::sys::is_culib_present(), cudarc::nvrtc::sys::is_culib_present()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told() {
        match card() {
            Ok(name) => assert!(!name.is_empty()),
            Err(e) => assert!(e.to_string().ends_with("; or train with --device cpu"), "{e}"),
        }
    }
}
