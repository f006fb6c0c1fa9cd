//! Servers under measurement: started on loopback, their CPU read from the kernel, stopped with this program.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// A server that accepts no connection after this long does not come up.
const START_MAX: Duration = Duration::from_secs(10);
/// `/proc` counts CPU in hundredths of a second where it has nothing finer.
const TICK: Duration = Duration::from_millis(10);

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts it with its words in `log` and waits until it accepts connections.
    pub fn start(mut command: Command, address: SocketAddr, log: &std::path::Path) -> anyhow::Result<Server> {
        let name = command.get_program().to_string_lossy().into_owned();
        let words = fs::File::create(log).with_context(|| format!("writing {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(words.try_clone()?).stderr(words);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        let mut server = Server { child, address };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{name} ended with {status}: {}", fs::read_to_string(log).unwrap_or_default().trim());
            }
            if begun.elapsed() > START_MAX {
                bail!("{name} does not accept connections on {address}; its words are in {}", log.display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(server)
    }

    /// Takes over a program that was started elsewhere.
    pub fn adopt(child: Child, address: SocketAddr) -> Server {
        Server { child, address }
    }

    /// Kills it outright, and waits until it is gone.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// CPU time of the process and its children so far.
    pub fn cpu(&self) -> io::Result<Duration> {
        let pid = self.child.id();
        let mut total = cpu_of(pid)?;
        for child in children(pid)? {
            total += cpu_of(child)?;
        }
        Ok(total)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A master that is killed outright leaves its workers behind; asked politely it takes them along.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status();
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago, for servers that cannot say which one they got.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Bytes of this process that are in memory.
pub fn resident_bytes() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.map(|k| k << 10).ok_or_else(|| io::Error::other("/proc/self/status has no VmRSS"))
}

fn cpu_of(pid: u32) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(task?.path().join("schedstat")) {
            // Nanoseconds on a CPU stand first.
            Ok(line) => total += Duration::from_nanos(line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)),
            Err(_) => return ticks_of(pid),
        }
    }
    Ok(total)
}

/// `utime + stime`, for kernels without `schedstat`.
fn ticks_of(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold spaces: fields are counted from its closing bracket; utime is the 12th after it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}

fn children(pid: u32) -> io::Result<Vec<u32>> {
    let parent = |stat: &str| stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        // A process may end while we look.
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        if parent(&stat) == Some(pid) {
            found.push(id);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn work_costs_time() {
        let me = std::process::id();
        let (fine, coarse) = (cpu_of(me).unwrap(), ticks_of(me).unwrap());
        let mut n = 0u64;
        while cpu_of(me).unwrap() - fine < Duration::from_millis(60) {
            n = std::hint::black_box(n + 1);
        }
        assert!(ticks_of(me).unwrap() - coarse >= TICK * 2, "both clocks move");
        assert!(resident_bytes().unwrap() > 1 << 20);
    }

    #[test]
    fn a_program_that_does_not_start_is_an_error_with_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such option; exit 3"]);
        let e = Server::start(command, free_address().unwrap(), &dir.path().join("log")).unwrap_err();
        assert!(e.to_string().contains("no such option"), "{e}");
    }
}
