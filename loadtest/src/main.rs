//! `tidegate-loadtest`: the demo shop, the crowd that storms it, and the demo that compares the two.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tidegate_loadtest::{
    bench_cli, capacity, capture,
    crowd::Scenario,
    crowding,
    demo::{self, Defence, DemoOptions},
    goodput_cli,
    live::{self, Progress, Target},
    measure, score_bench,
    shop::{Shop, ShopSettings},
    sim_admission, sim_cli, sim_goodput,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The demo shop and the crowd that storms it.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  tidegate-loadtest shop --listen 127.0.0.1:3000\n  \
    tidegate-loadtest run drop-day --target http://127.0.0.1:8080\n  \
    tidegate-loadtest demo --gate target/release/tidegate"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the demo shop: a legacy shop on SQLite with a small pool, a slow checkout and an oversell race.
    #[command(after_help = "Example:\n  tidegate-loadtest shop --listen 127.0.0.1:3000 --stock 500")]
    Shop {
        /// Where to listen; port 0 takes any free one and prints it.
        #[arg(long, default_value = "127.0.0.1:3000")]
        listen: SocketAddr,
        #[command(flatten)]
        settings: ShopSettings,
    },
    /// Runs a scenario (drop-day, calm-day or a file) against a target on this machine.
    #[command(after_help = "Example:\n  tidegate-loadtest run drop-day --target http://127.0.0.1:8080 --seed 7 --out .run")]
    Run {
        /// drop-day, calm-day, or the path of a scenario file.
        scenario: String,
        /// http://ADDRESS:PORT on this machine.
        #[arg(long)]
        target: Target,
        /// Seed of the crowd.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Prints the figures as JSON.
        #[arg(long)]
        json: bool,
        /// Writes crowd-events.jsonl there.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Finds what a shop can take with a closed ramp of workers. Buys units: use a shop whose stock does not matter.
    #[command(after_help = "Example:\n  tidegate-loadtest capacity --target http://127.0.0.1:3000")]
    Capacity {
        /// http://ADDRESS:PORT on this machine.
        #[arg(long)]
        target: Target,
        /// Seconds at each rung.
        #[arg(long, default_value_t = 2)]
        step_s: u64,
        /// Prints the ramp as JSON.
        #[arg(long)]
        json: bool,
    },
    /// What the gate costs: CPU per request beside Pingora alone, nginx and HAProxy; memory; time to start.
    Bench(bench_cli::BenchArgs),
    /// Fills a room with a million places, kills the gate, and says how long it takes to come back with all of them.
    Restart(bench_cli::RestartArgs),
    /// Orders under overload: behind the gate in each mode, nginx, HAProxy, Envoy, and alone; one shop, one crowd, one run.
    Goodput(Box<goodput_cli::GoodputArgs>),
    /// Bot identities as many as people, four times, ten times: who gets the units, without scores, with them, with quotas.
    Crowding(crowding::CrowdingArgs),
    /// Whole sales in virtual time over the real filters, judged by the checkers: many seeds, and the one that fails again.
    Sim(sim_cli::SimArgs),
    /// Ways to size admission against each other in virtual time: real series of arrivals, shops with troubles, forecasts that lie.
    SimAdmission(sim_admission::SimAdmissionArgs),
    /// What scores how many visits: inline, in batches, in blocks; on the CPU and on a CUDA device.
    ScoreBench(score_bench::ScoreBenchArgs),
    /// The cells of `goodput` in virtual time: the gate alone, many crowds, figures without a machine in them.
    SimGoodput(sim_goodput::SimGoodputArgs),
    /// Labelled traffic: made-up people and scalpers and real programs at one gate; a journal and its labels to train bot models on.
    Capture(capture::CaptureArgs),
    /// The same shop and the same crowd, without and with the gate: one table, one report. Fails when a promise is broken.
    #[command(after_help = "Example:\n  tidegate-loadtest demo --gate target/release/tidegate --out .demo")]
    Demo {
        /// The gate's program.
        #[arg(long)]
        gate: PathBuf,
        /// Directory for the report, logs, policy and journal.
        #[arg(long, default_value = ".demo")]
        out: PathBuf,
        /// drop-day, calm-day, or the path of a scenario file.
        #[arg(long, default_value = "drop-day")]
        scenario: String,
        /// Seed of the crowd.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        settings: ShopSettings,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match command(Args::parse().command).await {
        Ok(code) => code,
        Err(e) => {
            say_error(&format!("tidegate-loadtest: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Shop { listen, settings } => {
            let shop = Shop::start(settings, listen).await?;
            say(&format!("shop on http://{}", shop.address()));
            until_told_to_stop().await?;
            shop.stop().await;
        }
        Command::Run { scenario, target, seed, json, out } => {
            let scenario = Scenario::load(&scenario)?;
            run(&scenario, &target, seed, json, out.as_deref()).await?;
        }
        Command::Capacity { target, step_s, json } => {
            let found = capacity::measure(&target, Duration::from_secs(step_s.max(1))).await;
            say(&if json { serde_json::to_string_pretty(&found)? } else { demo::ramp(&found) });
        }
        Command::Crowding(args) => return crowding::run(&args, say).await,
        Command::Capture(args) => return capture::run(&args, say).await,
        // It measures with threads of its own.
        Command::Sim(args) => return tokio::task::spawn_blocking(move || sim_cli::run_seeds(&args)).await?,
        Command::SimAdmission(args) => return tokio::task::spawn_blocking(move || sim_admission::run(&args, say)).await?,
        Command::SimGoodput(args) => return tokio::task::spawn_blocking(move || sim_goodput::run(&args, say)).await?,
        Command::Goodput(args) => return goodput_cli::run(&args).await,
        Command::Bench(args) => return tokio::task::spawn_blocking(move || bench_cli::run(&args)).await?,
        Command::ScoreBench(args) => say(&tokio::task::spawn_blocking(move || score_bench::run(&args)).await??),
        Command::Restart(args) => return tokio::task::spawn_blocking(move || bench_cli::restart(&args)).await?,
        Command::Demo { gate, out, scenario, seed, settings } => {
            let gate = gate.canonicalize().with_context(|| format!("{} is not there; build it first", gate.display()))?;
            let own = std::env::current_exe().context("finding this program")?;
            let scenario = Scenario::load(&scenario)?;
            let options = DemoOptions { gate, own, out, scenario, seed, shop: settings, defence: Defence::Full };
            return run_demo(&options).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(scenario: &Scenario, target: &Target, seed: u64, json: bool, out: Option<&Path>) -> anyhow::Result<()> {
    let events = live::run(scenario, seed, target, Arc::new(Progress::default())).await;
    if let Some(out) = out {
        std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
        let file = out.join("crowd-events.jsonl");
        events.write(&file).with_context(|| format!("writing {}", file.display()))?;
    }
    let summary = measure::summarise(&events);
    say(&if json { serde_json::to_string_pretty(&summary)? } else { summary.to_string() });
    Ok(())
}

async fn run_demo(options: &DemoOptions) -> anyhow::Result<ExitCode> {
    let result = demo::run(options, &mut |line| say(line)).await?;
    let broken = demo::promises(&result.without, &result.with);
    let report = demo::write_report(&options.out, &result, &broken)?;
    say(&format!("\n{}\nreport: {}", demo::comparison(&result), report.display()));
    for b in &broken {
        say_error(&format!("BROKEN PROMISE – {}: {}", b.promise, b.found));
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// SIGINT or SIGTERM.
async fn until_told_to_stop() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// A closed pipe on the other side is no reason to fail.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn say_error(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
