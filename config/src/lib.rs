//! Tidegate's policy language: parse → check → compile, with errors that say where, what is wrong and what to write
//! instead.

pub mod policy;

pub use policy::{
    Policy,
    keep::{Journal, Keys, Log, LogFormat, LogLevel, SaleSettings},
    listen::{Admin, Connections, Listen, ProxyProtocol, Redirect, RequestLimits, Tls, Underscores},
    shop::{Health, HostHeader, ReportsSalesBy, Shop, Timeouts, Upstream, UpstreamTls},
    values::{ByteRate, Timestamp},
};
