//! `tidegate serve`

use std::{io::IsTerminal as _, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use tidegate_config::{Loaded, Log, LogFormat, LogLevel, load_with};
use tidegate_filters::Span;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{
    Failure, Outcome, fail, note,
    upstream::{self, Defaults},
};
use crate::{
    deep::Trial,
    gate::{Gate, GateOptions},
};

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    /// The policy file; watched, and loaded again when it is saved or on SIGHUP
    #[arg(long, value_name = "FILE", conflicts_with = "upstream")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    defaults: Defaults,
    /// Where operators come in, over what the policy says
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// How long /readyz says 503 before the listeners close at a graceful stop
    #[arg(long, value_name = "TIME", default_value = "0s")]
    unready_for: Span,
}

const EXAMPLES: &str = "\
Examples:
  tidegate serve --upstream http://127.0.0.1:3000
  tidegate serve --upstream http://127.0.0.1:3000 --listen 0.0.0.0:8080 --admin 127.0.0.1:9900
  tidegate serve --policy drop-day.yaml
  kill -HUP PID      loads the policy and the certificates again
  kill -TERM PID     graceful stop: /readyz says 503, requests under way are answered; a second one stops at once

TIDEGATE_LOG=debug (or tidegate_gateway=debug,info) says more than the policy's log.level.";

/// How often the main thread looks whether the gate ended by itself.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Serve {
    pub(super) fn run(self) -> Outcome {
        let loaded = self.load()?;
        start_log(&loaded.policy.log);
        note(&loaded.render_warnings());
        let policy_token = loaded.policy.admin.as_ref().and_then(|a| a.token_file.clone());
        let options = GateOptions {
            loaded,
            file: self.policy,
            admin: self.admin.map(|address| upstream::admin(address, policy_token)),
            trial: std::env::current_exe().map_or(Trial::None, Trial::Child),
            store: None,
            unready_before_close: Duration::from_millis(self.unready_for.ms()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| fail(Failure::Runtime, &format!("cannot start: {e}")))?;
        runtime.block_on(serve(options))
    }

    fn load(&self) -> Result<Loaded, Failure> {
        let refuse = |e: tidegate_config::PolicyErrors| fail(Failure::Check, &e.to_string());
        if self.policy.is_none() && self.defaults.upstream.is_empty() {
            let what = "what stands behind the gate? Say `--upstream http://127.0.0.1:3000` or `--policy FILE`; see `tidegate serve --help`";
            return Err(fail(Failure::Usage, what));
        }
        match &self.policy {
            Some(file) => load_with(file, &upstream::checks(&upstream::deep())).map_err(refuse),
            None => Loaded::from_policy(self.defaults.policy()?, &upstream::checks(&upstream::deep())).map_err(refuse),
        }
    }
}

async fn serve(options: GateOptions) -> Outcome {
    // Handlers first: a signal during the start is not lost.
    let listen = |kind| signal(kind).map_err(|e| fail(Failure::Runtime, &format!("cannot listen for signals: {e}")));
    let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hangup = listen(SignalKind::hangup())?;
    // With a handler a file that may not grow is an error of its write, not the end of the gate.
    let _too_large = listen(SignalKind::from_raw(libc::SIGXFSZ))?;
    let admin = options.admin.clone().or_else(|| options.loaded.policy.admin.clone());
    let gate = Gate::start(options).map_err(|e| fail(Failure::Runtime, &e.to_string()))?;
    for address in gate.addresses() {
        tracing::info!(%address, "visitors come in");
    }
    if let Some(address) = gate.admin_address() {
        let token = admin.and_then(|a| a.token_file).map_or_else(|| "none".into(), |f| f.display().to_string());
        tracing::info!(%address, token, "operators come in");
    }
    tracing::info!(version = env!("TIDEGATE_VERSION"), "ready");
    let (mut terminate, mut interrupt) = (terminate, interrupt);
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => gate.reload(),
            _ = look.tick() => {
                if let Some(ended) = gate.wait(Duration::ZERO) {
                    let why = ended.map_or_else(|e| e.to_string(), |_| "the listeners ended by themselves".into());
                    return Err(fail(Failure::Runtime, &why));
                }
            }
        }
    }
    stop(gate, terminate, interrupt).await
}

/// Graceful, unless a second signal comes.
async fn stop(gate: Gate, mut terminate: Signal, mut interrupt: Signal) -> Outcome {
    let stopping = tokio::task::spawn_blocking(|| gate.stop());
    tokio::select! {
        ended = stopping => match ended {
            Ok(Ok(drained)) if drained.left == 0 => {
                tracing::info!("stopped");
                Ok(())
            }
            Ok(Ok(drained)) => {
                tracing::warn!(connections = drained.left, "stopped; these were still open after connections.drain_max");
                Ok(())
            }
            Ok(Err(e)) => Err(fail(Failure::Runtime, &e.to_string())),
            Err(e) => Err(fail(Failure::Runtime, &format!("the stop broke off: {e}"))),
        },
        _ = terminate.recv() => at_once(),
        _ = interrupt.recv() => at_once(),
    }
}

fn at_once() -> Outcome {
    tracing::warn!("stopped at once by a second signal; requests under way are cut, rows since the last file are lost");
    std::process::exit(3)
}

/// The program's log on standard error; `TIDEGATE_LOG` goes over the policy.
fn start_log(log: &Log) {
    let said = std::env::var("TIDEGATE_LOG").ok();
    let filter = EnvFilter::try_new(said.unwrap_or_else(|| default_filter(log)));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    // Another subscriber is there already only in programs that embed this one.
    let _ = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_target(false).try_init(),
    };
}

/// Pingora reports what clients and shops do wrong, once a request: that is counted, not logged.
fn default_filter(log: &Log) -> String {
    let pingora = if matches!(log.level, LogLevel::Debug | LogLevel::Trace) { "error" } else { "off" };
    format!("{},pingora={pingora}", log.level.name())
}
