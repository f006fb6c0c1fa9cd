//! Shop and gate as processes of their own, as in real life.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use tokio::time::Instant;

use super::{
    DemoError, DemoOptions,
    beacon::Relay,
    policy::{DrawFacts, PolicyFacts, policy},
    process::Process,
};
use crate::{
    live::{self, Target},
    shop::{ShopSettings, Stats},
};

/// How long a gate may take to be ready; it must within one second, but a debug build on a busy machine is slower.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The gate needs a moment to start, to promise, and an auditor to enter, milliseconds.
const START_MS: u64 = 5_000;

/// A gate that is ready.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) process: Process,
    pub(crate) target: Target,
    pub(super) admin: Target,
    pub(super) token_file: PathBuf,
    pub(super) policy: PathBuf,
    pub(crate) journal: PathBuf,
    /// When the crowd has to start for the sale to open at the scenario's minute.
    pub(crate) crowd_starts: Instant,
}

/// Starts the shop on a free port; `own` is this program.
pub(crate) async fn shop(own: &Path, settings: &ShopSettings) -> Result<(Process, Target), DemoError> {
    let mut args = vec!["shop".to_owned(), "--listen=127.0.0.1:0".to_owned()];
    args.extend(settings.to_args());
    let (process, line) = Process::start_and_read("shop", own, &args).await?;
    let target = line.split_whitespace().find_map(|w| Target::parse(w).ok()).ok_or(DemoError::Silent { name: "shop" })?;
    Ok((process, target))
}

/// The shop's account, from its database.
pub(super) async fn account(shop: &Target) -> Result<Stats, DemoError> {
    let (_, body) = get(shop, "/admin/stats").await.map_err(DemoError::Account)?;
    serde_json::from_slice(&body).map_err(|e| DemoError::Account(e.to_string()))
}

/// Where a gate will be, and when its sale opens.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) token_file: PathBuf,
    pub(crate) opens_unix_ms: u64,
}

/// Writes the demo's policy, starts the gate, waits until it is ready.
pub(super) async fn gate(options: &DemoOptions, shop: &Target, capacity_per_s: f64, beacon: &Relay) -> Result<Gate, DemoError> {
    let directory = options.out.canonicalize().map_err(|e| DemoError::io(format!("opening {}", options.out.display()), e))?;
    let shop: SocketAddr = shop.authority().parse().map_err(|_| DemoError::Silent { name: "shop" })?;
    let written = |place: &Place| {
        policy(&PolicyFacts {
            listen: place.listen,
            admin: place.admin,
            token_file: &place.token_file,
            directory: &directory,
            shop,
            stock: options.shop.stock,
            capacity_per_s,
            defence: options.defence,
            opens_unix_ms: place.opens_unix_ms,
            draw: options.scenario.freezes_at.map(|freezes_at| DrawFacts {
                freeze_before_s: (options.scenario.opens_at.ms() - freezes_at.ms()) / 1_000,
                source: &beacon.source,
                relay: beacon.address,
            }),
        })
    };
    launch(&options.gate, &directory, "drop-day.yaml", options.scenario.opens_at.ms(), written).await
}

/// Starts a gate with a policy whose sale opens so long after the crowd starts, waits until it is ready. What an earlier gate left
/// in the directory is gone then.
pub(crate) async fn launch(
    program: &Path,
    directory: &Path,
    name: &str,
    opens_ms: u64,
    policy: impl Fn(&Place) -> String,
) -> Result<Gate, DemoError> {
    for old in ["journal", "keys", "state", "draw"] {
        drop(std::fs::remove_dir_all(directory.join(old)));
    }
    let token_file = directory.join("admin.token");
    write_secret(&token_file).map_err(|e| DemoError::io(format!("writing {}", token_file.display()), e))?;
    // Policies are written in whole seconds.
    let opens_unix_ms = (crate::unix_ms() + opens_ms + START_MS).div_ceil(1_000) * 1_000;
    let crowd_starts_in = opens_unix_ms - opens_ms - crate::unix_ms();
    let crowd_starts = Instant::now() + Duration::from_millis(crowd_starts_in);
    let place = Place { listen: free_address()?, admin: free_address()?, token_file, opens_unix_ms };
    let file = directory.join(name);
    std::fs::write(&file, policy(&place)).map_err(|e| DemoError::io(format!("writing {}", file.display()), e))?;
    let log = directory.join("gate.log");
    let args = ["serve".to_owned(), "--policy".to_owned(), file.display().to_string()];
    let mut process = Process::start("gate", program, &args, &log)?;
    let admin = Target::at(place.admin).map_err(|e| DemoError::Account(e.to_string()))?;
    ready(&mut process, &admin, &log).await?;
    let target = Target::at(place.listen).map_err(|e| DemoError::Account(e.to_string()))?;
    let journal = directory.join("journal");
    Ok(Gate { process, target, admin, token_file: place.token_file, policy: file, journal, crowd_starts })
}

/// As policies write instants.
pub(crate) fn utc(unix_ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(unix_ms).unwrap_or(i64::MAX)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A path as policies write it.
pub(crate) fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.display().to_string()).to_string()
}

/// The admin API's token, for nobody else to read.
pub(crate) fn write_secret(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut token = [0; 16];
    getrandom::fill(&mut token).map_err(|e| std::io::Error::other(e.to_string()))?;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{:032x}", u128::from_le_bytes(token))
}

async fn ready(process: &mut Process, admin: &Target, log: &Path) -> Result<(), DemoError> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let why = match get(admin, "/readyz").await {
            Ok((200, _)) => return Ok(()),
            Ok((status, _)) => format!("/readyz says {status}"),
            Err(e) => e,
        };
        let why = match process.ended() {
            Some(status) => format!("it ended with {status}"),
            None if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            None => why,
        };
        return Err(DemoError::GateNotReady { why, log: PathBuf::from(log) });
    }
}

pub(crate) async fn get(target: &Target, path: &str) -> Result<(u16, Bytes), String> {
    let uri = format!("{target}{path}");
    let request = hyper::Request::get(&uri).body(Full::new(Bytes::new())).map_err(|e| e.to_string())?;
    let exchange = async {
        let response = live::client().request(request).await.map_err(|e| format!("{uri}: {e}"))?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|e| format!("{uri}: {e}"))?;
        Ok((status, body.to_bytes()))
    };
    tokio::time::timeout(Duration::from_secs(5), exchange).await.unwrap_or_else(|_| Err(format!("{uri}: no answer in 5 s")))
}

/// A port that was free a moment ago. The gate says at once when somebody else was faster.
fn free_address() -> Result<SocketAddr, DemoError> {
    let io = |e| DemoError::io("looking for a free port".into(), e);
    TcpListener::bind("127.0.0.1:0").map_err(io)?.local_addr().map_err(io)
}
