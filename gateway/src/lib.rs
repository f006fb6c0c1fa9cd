//! The shell around the filters: connections, the proxy, the journal, metrics, the admin API, reload, the command line.

pub mod keys;
pub mod metrics;
