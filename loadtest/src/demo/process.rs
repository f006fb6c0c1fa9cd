//! Child processes of the demo, and how much of the machine everybody uses.

// One call, `kill(2)` with a child's own id: the gate must hear SIGTERM, so that it drains and closes its journal, and
// the standard library can only kill outright.
#![allow(unsafe_code)]

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::Instant,
};

use super::DemoError;

/// `USER_HZ`: the unit of times in /proc on every Linux of today.
const TICKS_PER_S: f64 = 100.0;

/// A child; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: &'static str,
}

impl Process {
    /// Starts a program whose output goes to a file.
    pub(super) fn start(name: &'static str, program: &Path, args: &[String], log: &Path) -> Result<Self, DemoError> {
        let file = std::fs::File::create(log).map_err(|e| DemoError::io(format!("writing {}", log.display()), e))?;
        let err = file.try_clone().map_err(|e| DemoError::io(format!("writing {}", log.display()), e))?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(err)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| DemoError::io(format!("starting {}", program.display()), e))?;
        Ok(Process { child, name })
    }

    /// Starts a program and waits for the first line it prints.
    pub(super) async fn start_and_read(name: &'static str, program: &Path, args: &[String]) -> Result<(Self, String), DemoError> {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| DemoError::io(format!("starting {}", program.display()), e))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            let mut out = BufReader::new(out);
            drop(tokio::time::timeout(Duration::from_secs(10), out.read_line(&mut line)).await);
        }
        let line = line.trim().to_owned();
        if line.is_empty() {
            return Err(DemoError::Silent { name });
        }
        Ok((Process { child, name }, line))
    }

    /// CPU seconds used so far.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.child.id().map_or(0.0, cpu_s)
    }

    /// Whether it has ended by itself.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to stop, then kills it when it has not after `patience`.
    pub(crate) async fn stop(mut self, patience: Duration) -> Result<(), DemoError> {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // SAFETY: a plain system call; the child is not yet waited for, so the id is still its own.
            unsafe { libc::kill(id, libc::SIGTERM) };
        }
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => {
                drop(self.child.kill().await);
                Err(DemoError::Stuck { name: self.name, seconds: patience.as_secs() })
            }
        }
    }
}

/// A reading of CPU times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    at: Instant,
    busy_s: f64,
    own_s: f64,
    shop_s: f64,
    gate_s: f64,
}

/// Share of the whole machine, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Load {
    /// Everything that runs on the machine.
    pub machine_percent: f64,
    /// The shop.
    pub shop_percent: f64,
    /// The gate.
    pub gate_percent: f64,
    /// The crowd.
    pub crowd_percent: f64,
}

impl Reading {
    /// `gate_s`: CPU seconds of whatever stands before the shop.
    pub(crate) fn take(shop: &Process, gate_s: f64) -> Self {
        Reading { at: Instant::now(), busy_s: machine_busy_s(), own_s: cpu_s(std::process::id()), shop_s: shop.cpu_s(), gate_s }
    }

    /// What was used since an earlier reading.
    pub(crate) fn since(&self, earlier: &Reading) -> Load {
        let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let wall = (self.at - earlier.at).as_secs_f64().max(0.001) * cores;
        let percent = |now: f64, then: f64| (now - then).max(0.0) / wall * 100.0;
        Load {
            machine_percent: percent(self.busy_s, earlier.busy_s),
            shop_percent: percent(self.shop_s, earlier.shop_s),
            gate_percent: percent(self.gate_s, earlier.gate_s),
            crowd_percent: percent(self.own_s, earlier.own_s),
        }
    }
}

fn cpu_s(pid: u32) -> f64 {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(process_ticks).unwrap_or(0) as f64 / TICKS_PER_S
}

/// `utime + stime` of /proc/PID/stat. The name in parentheses may hold anything, so fields count from the last `)`.
fn process_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn machine_busy_s() -> f64 {
    std::fs::read_to_string("/proc/stat").ok().as_deref().and_then(machine_ticks).unwrap_or(0) as f64 / TICKS_PER_S
}

/// Everything of the first line of /proc/stat but idle and iowait; guest times are in user time already.
fn machine_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = stat.lines().next()?.split_ascii_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    let all: u64 = fields.iter().take(8).sum();
    Some(all - fields.get(3)? - fields.get(4)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_right() {
        let stat = "42 (a ) name) S 1 2 3 4 5 6 7 8 9 10 700 300 0 0 20 0 9 0 1 2 3";
        assert_eq!(process_ticks(stat), Some(1_000));
        assert_eq!(machine_ticks("cpu  100 5 50 800 20 1 2 3 0 0\ncpu0 1 2\n"), Some(161));
    }
}
