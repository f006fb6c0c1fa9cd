//! `tidegate-loadtest goodput`

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use crate::{
    goodput::{self, Load, Options, Programs, Tier},
    shop::ShopSettings,
};

/// Arguments of `goodput`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  tidegate-loadtest goodput --gate target/release/tidegate\n  \
    tidegate-loadtest goodput --gate target/release/tidegate --quick\n  \
    tidegate-loadtest goodput --gate target/release/tidegate --tiers forecast,haproxy --loads 4,step --minutes 2 --json\n  \
    tidegate-loadtest goodput --gate target/release/tidegate --envoy ~/.cache/tidegate/envoy/envoy/_bin/envoy --minutes 25")]
pub struct GoodputArgs {
    /// The gate's program.
    #[arg(long)]
    gate: PathBuf,
    /// Envoy's program; without it one on the PATH, or none.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// What stands before the shop: forecast, measured, fixed-right, fixed-half, fixed-double, nginx, haproxy, envoy, bare.
    #[arg(long, value_delimiter = ',')]
    tiers: Vec<Tier>,
    /// What is offered: multiples of what the shop takes, step, ramp, storm.
    #[arg(long, value_delimiter = ',')]
    loads: Vec<Load>,
    /// The whole run takes about so long; cells share it.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Four tiers, 4× and a step, two minutes.
    #[arg(long)]
    quick: bool,
    /// Seed of the crowd.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Directory for goodput.html and goodput.json.
    #[arg(long, default_value = ".demo")]
    out: PathBuf,
    #[command(flatten)]
    shop: ShopSettings,
}

impl GoodputArgs {
    fn options(&self) -> anyhow::Result<Options> {
        let there = |p: &Path| p.canonicalize().with_context(|| format!("{} is not there; build it first", p.display()));
        if let Some(envoy) = &self.envoy {
            there(envoy)?;
        }
        let (tiers, loads, minutes) = match self.quick {
            true => (vec![Tier::Forecast, Tier::Measured, Tier::Haproxy, Tier::Bare], vec![Load::Times(4), Load::Step], 2.0),
            false => (Tier::ALL.to_vec(), Load::ALL.to_vec(), self.minutes),
        };
        Ok(Options {
            programs: Programs { gate: there(&self.gate)?, envoy: goodput::find_envoy(self.envoy.clone()) },
            own: std::env::current_exe().context("finding this program")?,
            seed: self.seed,
            tiers: if self.tiers.is_empty() { tiers } else { self.tiers.clone() },
            loads: if self.loads.is_empty() { loads } else { self.loads.clone() },
            budget: Duration::from_secs_f64(60.0 * minutes.clamp(0.5, 180.0)),
            shop: ShopSettings { stock: 10_000_000, ..self.shop.clone() },
        })
    }
}

/// Measures, prints, writes the page. A missed aim is said and fails nothing.
pub async fn run(args: &GoodputArgs) -> anyhow::Result<ExitCode> {
    let report = goodput::run(&args.options()?).await?;
    let page = goodput::write(&args.out, &report)?;
    let text = if args.json { serde_json::to_string_pretty(&report)? } else { goodput::text(&report) };
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    let _ = writeln!(std::io::stderr(), "report: {}", page.display());
    Ok(ExitCode::SUCCESS)
}
