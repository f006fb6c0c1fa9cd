//! A labelled crowd: made-up people and scalpers, and real programs, at one gate; its journal, and whose visits were whose.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Full};
use serde::Deserialize;
use tidegate_filters::Row;
use tidegate_models::{
    journal,
    tune::{Label, Labels},
};
use tokio::process::{Child, Command};

use crate::{
    crowd::{Crowd, Kind, Scenario},
    demo::stage::{self, Gate},
    live::{self, Progress, Target},
    shop::ShopSettings,
};

/// A request to this path, at the end, tells whose an address was.
const MARK: &str = "/capture/was/";
const PEOPLE: &str = "people";
/// Where the real programs say whose address was whose.
const TOLD: &str = "clients.json";

/// Arguments of `capture`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  tidegate-loadtest capture --gate target/release/tidegate --out .capture --seed 1\n  \
    tidegate train bots --from .capture/journal --labels .capture/labels.csv --hold-out family --out bots.onnx")]
pub struct CaptureArgs {
    /// The gate's program.
    #[arg(long)]
    gate: PathBuf,
    /// Directory for the journal, labels.csv and logs; a journal that is there makes room.
    #[arg(long, default_value = ".capture")]
    out: PathBuf,
    /// Seed of everybody. Programs are real, so their times are only alike.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// capture, or the path of a scenario file.
    #[arg(long, default_value = "capture")]
    scenario: String,
    /// What drives the real programs, and the Python it runs with.
    #[arg(long, default_value = "loadtest/capture/clients.py")]
    clients: PathBuf,
    /// Python, with what it has of requests, httpx, aiohttp and selenium.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

/// What the clients' program writes.
#[derive(Debug, Default, Deserialize)]
struct Clients {
    families: BTreeMap<String, String>,
    notes: Vec<String>,
}

/// Captures, labels, and tells what there is.
pub async fn run(args: &CaptureArgs, say: fn(&str)) -> anyhow::Result<ExitCode> {
    let gate = args.gate.canonicalize().with_context(|| format!("{} is not there; build it first", args.gate.display()))?;
    let scenario = Scenario::load(&args.scenario)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("making {}", args.out.display()))?;
    let own = std::env::current_exe().context("finding this program")?;
    // Stock, pool and work are not what is looked at here.
    let settings = ShopSettings { pool: 32, work_ms: 5, checkout_ms: 10, stock: 1_000_000, ..ShopSettings::default() };
    let (shop, shop_target) = stage::shop(&own, &settings).await?;
    let gate = start(&gate, &args.out, &shop_target, &scenario).await?;
    say(&format!(
        "{} s of {}: {} people, {} squads of scalpers, and the programs that are installed",
        scenario.ends_at.ms() / 1_000,
        scenario.name,
        scenario.people.count,
        scenario.bots.len()
    ));
    let mut programs = start_programs(args, &gate.target, &scenario)?;
    live::run(&scenario, args.seed, &gate.target, Arc::new(Progress::default())).await;
    let status = programs.wait().await.context("waiting for the real programs")?;
    if !status.success() {
        bail!("{} ended with {status}; its words are above", args.clients.display());
    }
    let told = args.out.join(TOLD);
    let text = std::fs::read(&told).with_context(|| format!("reading {}", told.display()))?;
    let clients: Clients = serde_json::from_slice(&text).with_context(|| format!("reading {}", told.display()))?;
    let families = families(&Crowd::new(&scenario, args.seed), &clients);
    mark(&gate.target, &families).await?;
    gate.process.stop(Duration::from_secs(15)).await?;
    shop.stop(Duration::from_secs(5)).await?;
    let mut rows: Vec<Row> = vec![];
    for file in journal::list(&gate.journal)? {
        rows.extend(journal::read(&file)?);
    }
    let (labels, table) = label(&rows, &families);
    let file = args.out.join("labels.csv");
    labels.write(&file)?;
    clients.notes.iter().for_each(|n| say(&format!("note: {n}")));
    say(&table);
    say(&format!(
        "{} visitors labelled in {}\ntidegate train bots --from {} --labels {} --hold-out family",
        labels.len(),
        file.display(),
        gate.journal.display(),
        file.display()
    ));
    Ok(ExitCode::SUCCESS)
}

async fn start(program: &Path, out: &Path, shop: &Target, scenario: &Scenario) -> anyhow::Result<Gate> {
    let out = out.canonicalize().with_context(|| format!("opening {}", out.display()))?;
    let shop: SocketAddr = shop.authority().parse().context("the shop's address")?;
    let policy = |place: &stage::Place| {
        format!(
            "version: 1
listen: [ {{ address: {listen} }} ]
admin: {{ address: {admin}, token_file: {token} }}
trusted_proxies: [127.0.0.1/32]
shop: {{ upstreams: [ {{ address: {shop} }} ], reports_sales_by: {{ header: Tidegate-Sold }} }}
routes:
  - {{ name: assets, match: {{ prefix: /static/ }}, filters: none }}
  - {{ name: marks, match: {{ prefix: {MARK} }} }}
  - {{ name: shop, match: {{ prefix: / }} }}
filters:
  - bot_gate: {{ model: builtin, to_the_back_at: 0.85, when_unscored: wait, shadow: true }}
  - waiting_room: {{ room: drop, routes: [shop] }}
rooms: [ {{ name: drop, seats: {{ max: 10000 }}, admission: {{ fixed: 200/s }} }} ]
sales: [ {{ name: drop, room: drop, prequeue_opens_at: {prequeue}, opens_at: {opens}, closes_at: {closes} }} ]
journal: {{ directory: {journal} }}
keys: {{ directory: {keys} }}
",
            listen = place.listen,
            admin = place.admin,
            token = stage::quoted(&place.token_file),
            prequeue = stage::utc(place.opens_unix_ms.saturating_sub(600_000)),
            opens = stage::utc(place.opens_unix_ms),
            closes = stage::utc(place.opens_unix_ms + 3_600_000),
            journal = stage::quoted(&out.join("journal")),
            keys = stage::quoted(&out.join("keys")),
        )
    };
    let gate = stage::launch(program, &out, "capture.yaml", scenario.opens_at.ms(), policy).await?;
    tokio::time::sleep_until(gate.crowd_starts).await;
    Ok(gate)
}

/// The real programs, as a program of their own.
fn start_programs(args: &CaptureArgs, target: &Target, scenario: &Scenario) -> anyhow::Result<Child> {
    let mut command = Command::new(&args.python);
    command.arg(&args.clients).arg(target.to_string());
    command.args(["--seconds", &(scenario.ends_at.ms() / 1_000).to_string(), "--seed", &args.seed.to_string(), "--addresses"]);
    command.arg(args.out.join(TOLD)).stdin(Stdio::null()).kill_on_drop(true);
    command.spawn().with_context(|| format!("starting {}", args.python.display()))
}

/// Whose address is whose.
fn families(crowd: &Crowd, clients: &Clients) -> BTreeMap<String, String> {
    let mut all = clients.families.clone();
    for visitor in &crowd.visitors {
        let family = if visitor.kind() == Kind::Person { PEOPLE } else { visitor.kind().name() };
        all.extend(visitor.addresses().iter().map(|a| (a.to_string(), family.to_owned())));
    }
    all
}

/// One request from each address says whose it was; the journal knows addresses only by their hashes.
async fn mark(target: &Target, families: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let client = live::client();
    for (address, family) in families {
        let uri = format!("{target}{MARK}{family}");
        let request = hyper::Request::get(&uri).header("x-forwarded-for", address).body(Full::new(Bytes::new()))?;
        let answer = client.request(request).await.with_context(|| format!("telling {uri}"))?;
        answer.into_body().collect().await.with_context(|| format!("telling {uri}"))?;
    }
    Ok(())
}

/// Labels by visitor, and a table of what there is of whom.
fn label(rows: &[Row], families: &BTreeMap<String, String>) -> (Labels, String) {
    let networks: BTreeMap<u64, &str> = rows.iter().filter_map(|r| Some((r.network, r.path.strip_prefix(MARK)?))).collect();
    let mut visitors: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, (BTreeSet<u64>, usize)> = BTreeMap::new();
    for row in rows.iter().filter(|r| r.visitor != 0 && !r.path.starts_with(MARK)) {
        let Some(&family) = networks.get(&row.network) else { continue };
        visitors.entry(row.visitor).or_default().insert(family);
        let count = counts.entry(family).or_default();
        count.0.insert(row.visitor);
        count.1 += 1;
    }
    let mut labels = Labels::default();
    // A visitor of two families would be a bug of the capture; it teaches nothing.
    for (visitor, of) in visitors.iter().filter(|(_, of)| of.len() == 1) {
        let family = of.first().copied().unwrap_or_default();
        let label = if family == PEOPLE { Label::Person } else { Label::Program };
        labels.set_with(*visitor, label, "captured", if family == PEOPLE { "" } else { family });
    }
    let known: BTreeSet<&String> = families.values().collect();
    let mut table = format!("{:<22}{:>10}{:>10}\n", "", "visitors", "visits");
    for family in known {
        let (seen, visits) = counts.get(family.as_str()).map_or((0, 0), |(v, n)| (v.len(), *n));
        table += &format!("{family:<22}{seen:>10}{visits:>10}\n");
    }
    (labels, table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(visitor: u64, network: u64, path: &str) -> Row {
        Row { visitor, network, path: path.into(), ..Row::default() }
    }

    #[test]
    fn a_mark_from_an_address_labels_who_came_from_there() {
        let rows = [
            row(1, 10, "/"),
            row(1, 10, "/product/1"),
            row(2, 20, "/"),
            row(3, 30, "/"),
            row(4, 10, "/"),
            row(4, 20, "/"),
            row(0, 20, "/"),
            row(91, 10, "/capture/was/people"),
            row(92, 20, "/capture/was/curl"),
        ];
        let families = [("198.18.0.1", "people"), ("198.21.0.1", "curl"), ("198.21.0.2", "wget")];
        let families = families.map(|(a, f)| (a.to_owned(), f.to_owned())).into();
        let (labels, table) = label(&rows, &families);
        assert_eq!((labels.get(1), labels.get(2), labels.family(2)), (Some(Label::Person), Some(Label::Program), "curl"));
        assert_eq!(labels.get(3), None, "nobody said whose it was");
        assert_eq!(labels.get(4), None, "two families");
        assert_eq!(labels.len(), 2, "marks are no visits");
        let counted = |line: &str| line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>();
        let of = |family: &str| table.lines().find(|l| l.starts_with(family)).map(counted).unwrap_or_default();
        assert_eq!(
            (of("people"), of("curl"), of("wget")),
            (vec!["2".into(), "3".into()], vec!["2".into(), "2".into()], vec!["0".into(), "0".into()])
        );
    }
}
