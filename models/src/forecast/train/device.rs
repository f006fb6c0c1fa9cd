//! Where training computes.

use burn::{
    backend::{Autodiff, NdArray},
    tensor::backend::Backend,
};

/// The CPU, in this process.
pub(super) type Cpu = NdArray<f32>;

/// Where training computes. What is not in this build has no name here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The CPU: the same seed gives the same bits.
    #[default]
    Cpu,
    /// The first NVIDIA card that CUDA shows.
    #[cfg(feature = "train-cuda")]
    Cuda,
}

impl Device {
    /// By its name, when this build has it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "cpu" => Some(Device::Cpu),
            #[cfg(feature = "train-cuda")]
            "cuda" => Some(Device::Cuda),
            _ => None,
        }
    }
}

/// A backend, and whether its own product of matrices may be used.
pub(super) trait Place: Backend {
    /// It multiplies in 32 bits. Tensor cores keep 10 bits of the fraction of what they multiply, and a net that was learnt so
    /// says something else than the runtime by more than is believed.
    const EXACT: bool;
}

impl Place for Cpu {
    const EXACT: bool = true;
}

impl<B: Place> Place for Autodiff<B> {
    const EXACT: bool = B::EXACT;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert_eq!(Device::named("cpu"), Some(Device::default()));
        assert_eq!(Device::named("cuda").is_some(), cfg!(feature = "train-cuda"));
        assert_eq!(Device::named("CPU").or(Device::named("")).or(Device::named("cuda:0")), None);
    }
}
