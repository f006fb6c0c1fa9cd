//! The demo shop, the crowd that storms it, and what is measured while it does.

pub mod bench;
pub mod bench_cli;
pub mod capacity;
pub mod capture;
pub mod checkers;
pub mod crowd;
pub mod crowding;
pub mod demo;
pub mod events;
pub mod fairness;
pub mod goodput;
pub mod goodput_cli;
pub mod judge;
pub mod live;
pub mod measure;
pub mod report;
pub mod score_bench;
pub mod shop;
pub mod sim;
pub mod sim_admission;
pub mod sim_cli;
pub mod sim_goodput;

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
