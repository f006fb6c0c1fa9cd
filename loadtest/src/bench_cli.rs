//! `tidegate-loadtest bench`

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Args;

use crate::bench::{self, Options};

/// Arguments of `bench`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  tidegate-loadtest bench --gate target/release/tidegate --bare target/release/tidegate-bare")]
pub struct BenchArgs {
    /// The gate's program; without it only the others are measured.
    #[arg(long)]
    gate: Option<PathBuf>,
    /// Pingora alone: `make build` makes it: target/release/tidegate-bare.
    #[arg(long)]
    bare: PathBuf,
    /// Seconds of one round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How often the rows take turns.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Measures and prints. Fails when a row had a wrong answer; a missed target is only marked.
pub fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let there = |p: &PathBuf| p.canonicalize().with_context(|| format!("{} is not there; build it first", p.display()));
    let options = Options {
        gate: args.gate.as_ref().map(there).transpose()?,
        bare: there(&args.bare)?,
        round: Duration::from_secs_f64(args.seconds.clamp(0.2, 60.0)),
        rounds: args.rounds.clamp(1, 1_000),
    };
    let report = bench::run(&options, &mut |line| drop(writeln!(std::io::stderr(), "{line}")))?;
    let text = if args.json { serde_json::to_string_pretty(&report)? } else { report.markdown() };
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    Ok(if report.is_valid() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Arguments of `restart`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  tidegate-loadtest restart --gate target/release/tidegate --places 1000000")]
pub struct RestartArgs {
    /// The gate's program.
    #[arg(long)]
    gate: PathBuf,
    /// People in the room when it is killed.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=15_000_000))]
    places: u32,
    /// Prints JSON instead of words.
    #[arg(long)]
    json: bool,
}

/// Measures and prints. Fails when a place was lost.
pub fn restart(args: &RestartArgs) -> anyhow::Result<ExitCode> {
    let gate = args.gate.canonicalize().with_context(|| format!("{} is not there; build it first", args.gate.display()))?;
    let found = bench::restart(&gate, args.places, &mut |line| drop(writeln!(std::io::stderr(), "{line}")))?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&found)?,
        false => format!(
            "{} places, {:.1} MiB of state, kill -9: ready again after {:.0} ms with {} places",
            found.places,
            found.state_bytes as f64 / f64::from(1 << 20),
            found.ready_ms,
            found.back
        ),
    };
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    Ok(if found.back >= found.places { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
