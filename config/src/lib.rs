//! Tidegate's policy language: parse → check → compile, with errors that say where, what is wrong and what to write
//! instead.

mod check;
mod error;
mod explain;
mod load;
mod parse;
mod place;
pub mod policy;
mod quoted;
mod restart;
mod schema;
mod unknown;
mod words;

pub use check::{Checks, DeepCheck, NAME_MAX, WINDOW_MS, is_name};
pub use error::{Place, PolicyErrors, Problem};
pub use explain::explain;
pub use load::{Loaded, load, load_with, parse, parse_with};
pub use parse::FILE_BYTES_MAX;
pub use policy::{
    Policy,
    keep::{ForecastSettings, Journal, Keys, Log, LogFormat, LogLevel, SaleSettings, State},
    listen::{Admin, Connections, Listen, ProxyProtocol, RequestLimits, Tls, Underscores},
    schedule::Scheduled,
    shop::{Health, HostHeader, ReportsSalesBy, Shop, Silence, Timeouts, Upstream, UpstreamTls},
    values::{ByteRate, Redirect, Timestamp},
};
pub use restart::diff_needs_restart;
pub use schema::schema;
