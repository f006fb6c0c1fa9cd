//! What stands before the shop: the gate in each of its modes, what others have for it, and nothing.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Serialize;

use super::envoy;
use crate::{
    bench::{
        process::{Server, free_address},
        rivals,
    },
    demo::stage::write_secret,
};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// `admission: forecast`, nothing said about the shop.
    Forecast,
    /// `admission: measured`, nothing said about the shop.
    Measured,
    /// `admission: { fixed: … }`, as many passes as the shop takes orders.
    FixedRight,
    /// Half of that.
    FixedHalf,
    /// Twice that.
    FixedDouble,
    /// nginx `limit_req` at the rate of requests the shop takes.
    Nginx,
    /// HAProxy `maxconn` and queue, sized as the load test found.
    Haproxy,
    /// Envoy's adaptive concurrency, nothing said about the shop.
    Envoy,
    /// Nothing.
    Bare,
}

/// What was found out about the shop, for those who have to be told.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Good answers a second.
    pub answers_per_s: f64,
    /// Orders a second.
    pub orders_per_s: f64,
    /// Requests under way with which it takes most.
    pub workers: u32,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The gate.
    pub gate: PathBuf,
    /// Envoy, where it is installed.
    pub envoy: Option<PathBuf>,
}

/// A tier that runs.
#[derive(Debug)]
pub struct Front {
    /// `None`: nothing stands before the shop.
    pub server: Option<Server>,
    /// Where the crowd goes.
    pub address: SocketAddr,
    /// The gate's admin listener and its token.
    pub admin: Option<(SocketAddr, String)>,
}

impl Tier {
    /// In the order of tables.
    pub const ALL: [Tier; 9] = [
        Tier::Forecast,
        Tier::Measured,
        Tier::FixedRight,
        Tier::FixedHalf,
        Tier::FixedDouble,
        Tier::Nginx,
        Tier::Haproxy,
        Tier::Envoy,
        Tier::Bare,
    ];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Forecast => "Tidegate, forecast",
            Tier::Measured => "Tidegate, measured",
            Tier::FixedRight => "Tidegate, fixed right",
            Tier::FixedHalf => "Tidegate, fixed half",
            Tier::FixedDouble => "Tidegate, fixed double",
            Tier::Nginx => "nginx limit_req, right",
            Tier::Haproxy => "HAProxy maxconn, right",
            Tier::Envoy => "Envoy adaptive",
            Tier::Bare => "the shop alone",
        }
    }

    /// As it is written on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Tier::Forecast => "forecast",
            Tier::Measured => "measured",
            Tier::FixedRight => "fixed-right",
            Tier::FixedHalf => "fixed-half",
            Tier::FixedDouble => "fixed-double",
            Tier::Nginx => "nginx",
            Tier::Haproxy => "haproxy",
            Tier::Envoy => "envoy",
            Tier::Bare => "bare",
        }
    }

    /// Somebody else's.
    pub fn is_rival(self) -> bool {
        matches!(self, Tier::Nginx | Tier::Haproxy | Tier::Envoy)
    }

    /// Why it cannot run here.
    pub fn missing(self, programs: &Programs) -> Option<String> {
        let absent =
            |name: &str| rivals::find(name).is_none().then(|| format!("{name} is not installed (apt-get install {name})"));
        match self {
            Tier::Nginx => absent("nginx"),
            Tier::Haproxy => absent("haproxy"),
            Tier::Envoy if programs.envoy.is_none() => {
                Some("envoy is not installed (`make bench-goodput` brings it; or --envoy PATH)".into())
            }
            _ => None,
        }
    }

    /// Starts it before the shop. Configurations and logs go to `dir`.
    pub fn start(self, programs: &Programs, shop: SocketAddr, known: &Known, dir: &Path) -> anyhow::Result<Front> {
        let admission = |times: f64| format!("{{ fixed: {:.0}/min }}", (60.0 * known.orders_per_s * times).max(1.0));
        let gate = |admission: &str| gate(&programs.gate, admission, shop, dir);
        let front = |server: Server| Front { address: server.address, server: Some(server), admin: None };
        match self {
            Tier::Forecast => gate("forecast"),
            Tier::Measured => gate("measured"),
            Tier::FixedRight => gate(&admission(1.0)),
            Tier::FixedHalf => gate(&admission(0.5)),
            Tier::FixedDouble => gate(&admission(2.0)),
            Tier::Nginx => {
                let program = rivals::find("nginx").unwrap_or_else(|| "nginx".into());
                Ok(front(rivals::nginx(&program, shop, dir, Some(known.answers_per_s.max(1.0) as u32))?))
            }
            Tier::Haproxy => {
                let program = rivals::find("haproxy").unwrap_or_else(|| "haproxy".into());
                Ok(front(rivals::haproxy(&program, shop, dir, Some(known.workers))?))
            }
            Tier::Envoy => {
                let program = programs.envoy.clone().unwrap_or_else(|| "envoy".into());
                Ok(front(envoy::start(&program, shop, dir)?))
            }
            Tier::Bare => Ok(Front { server: None, address: shop, admin: None }),
        }
    }
}

impl std::str::FromStr for Tier {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let words = || Tier::ALL.map(Tier::word).join(", ");
        Tier::ALL.into_iter().find(|t| t.word() == s).ok_or_else(|| format!("`{s}`: write one of {}", words()))
    }
}

fn gate(program: &Path, admission: &str, shop: SocketAddr, dir: &Path) -> anyhow::Result<Front> {
    let (address, admin) = (free_address()?, free_address()?);
    let token = dir.join("admin.token");
    write_secret(&token)?;
    let file = dir.join("gate.yaml");
    fs::write(&file, policy(address, admin, &token, admission, shop))?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--policy").arg(&file);
    let server = Server::start(command, address, &dir.join("gate.log"))?;
    let token = fs::read_to_string(&token)?.trim().to_owned();
    Ok(Front { address, server: Some(server), admin: Some((admin, token)) })
}

/// As little as an operator may write; nothing about what the shop can take.
pub(super) fn policy(address: SocketAddr, admin: SocketAddr, token: &Path, admission: &str, shop: SocketAddr) -> String {
    format!(
        "version: 1\nthreads: {threads}\nlisten: [ {{ address: {address} }} ]\n\
         admin: {{ address: {admin}, token_file: '{token}' }}\ntrusted_proxies: [127.0.0.1/32]\n\
         shop:\n  upstreams: [ {{ address: {shop} }} ]\n\
         routes:\n  - {{ name: assets, match: {{ prefix: /static/ }}, filters: none }}\n  - {{ name: shop, match: {{ prefix: / }} }}\n\
         filters:\n  - waiting_room: {{ room: shop, routes: [shop] }}\n\
         rooms:\n  - {{ name: shop, admission: {admission}, seats: {{ max: 10000, pass_idle: 15s, pass_age_max: 5m }}, claim_window: 20s }}\n",
        threads = rivals::THREADS,
        token = token.display(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_gate_accepts_every_policy() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        write_secret(&token).unwrap();
        for admission in ["forecast", "measured", "{ fixed: 2460/min }"] {
            let text = policy(at(1), at(2), &token, admission, at(3));
            let loaded = tidegate_config::parse(&text, "gate.yaml").unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert!(loaded.warnings.is_empty(), "{}", loaded.render_warnings());
        }
    }

    #[test]
    fn every_tier_has_a_word() {
        for tier in Tier::ALL {
            assert_eq!(tier.word().parse::<Tier>(), Ok(tier));
        }
        assert!("apache".parse::<Tier>().unwrap_err().contains("haproxy"));
    }
}
