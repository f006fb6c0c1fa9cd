//! Atomics and locks of `seats/`: the standard ones, or a model checker's.

#[cfg(feature = "loom")]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(all(feature = "shuttle", not(feature = "loom")))]
pub use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(feature = "loom")]
pub use loom::sync::{Mutex, MutexGuard};
#[cfg(all(feature = "shuttle", not(feature = "loom")))]
pub use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
pub use std::sync::{Mutex, MutexGuard};
