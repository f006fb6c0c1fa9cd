//! What the gate costs: CPU per request beside Pingora alone, nginx and HAProxy, memory, time to start.
//!
//! Every server runs the whole time; rounds take turns over all rows, so that whatever else the machine does hits all of
//! them. CPU is the server's own, as the kernel counts it: the load may share the cores.

pub mod gate;
pub mod load;
pub mod memory;
pub mod process;
pub mod restart;
pub mod rivals;
pub mod table;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use anyhow::Context as _;

use self::{
    gate::{Gate, Setting},
    load::Target,
    process::Server,
    rivals::LOCAL_PATH,
    table::{Group, Report, Row},
};

/// What a script sends.
const JSON: &str = "application/json";
/// What a browser sends.
const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// What to measure, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The gate's program.
    pub gate: Option<PathBuf>,
    /// Pingora alone (`tidegate-bare`, which `make build` makes).
    pub bare: PathBuf,
    /// Of one round.
    pub round: Duration,
    /// How often the rows take turns.
    pub rounds: usize,
}

/// A row with the server that fills it.
struct Subject {
    row: Row,
    target: Target,
    server: Rc<Server>,
}

/// Measures everything; `say` gets a line now and then.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
    say("memory of a room and of a quota");
    let (room, keys) = (memory::room()?, memory::keys()?);
    let dir = Workplace::new()?;
    let mut stage =
        Stage { dir: &dir.0, upstream: load::upstream()?, subjects: Vec::new(), left_out: Vec::new(), ready_ms: Vec::new() };
    stage.set_up(options, say)?;
    let Stage { mut subjects, left_out, ready_ms, .. } = stage;
    for n in 1..=options.rounds {
        say(&format!(
            "round {n} of {}: {} rows, {:.1} s each",
            options.rounds,
            subjects.len(),
            options.round.as_secs_f64() * 1.2
        ));
        for s in &mut subjects {
            let round = load::round(&s.target, options.round, || s.server.cpu()).with_context(|| s.row.name.clone())?;
            s.row.rounds.push(round.us_each());
            s.row.answers += round.answers;
            s.row.errors += round.errors;
        }
    }
    let mut rows: Vec<Row> = subjects.into_iter().map(|s| s.row).collect();
    rows.extend(left_out);
    Ok(Report { machine: machine(), seconds: options.round.as_secs_f64(), rows, room, keys, ready_ms })
}

/// Servers come up here.
struct Stage<'a> {
    dir: &'a Path,
    upstream: SocketAddr,
    subjects: Vec<Subject>,
    left_out: Vec<Row>,
    ready_ms: Vec<f64>,
}

impl Stage<'_> {
    fn set_up(&mut self, options: &Options, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        let bare = Rc::new(rivals::bare(&options.bare, self.upstream)?);
        // Everybody gets a head of the same size; only the gate knows what its cookies mean.
        let foreign = gate::request("/product/1", HTML, &format!("session={}", "a".repeat(480)));
        let local = gate::request(LOCAL_PATH, JSON, &format!("session={}", "a".repeat(480)));
        self.add("Pingora alone", Group::Proxied, None, &bare, vec![foreign.clone()], 200);
        self.add("Pingora alone, in `request_filter`", Group::Local, None, &bare, vec![local.clone()], 200);
        match &options.gate {
            Some(program) => self.gates(program, say)?,
            None => self.leave_out("Tidegate", Group::Proxied, "no --gate was given"),
        }
        type Start = fn(&Path, SocketAddr, &Path, Option<u32>) -> anyhow::Result<Server>;
        let rivals: [(&str, Start); 2] = [("nginx", rivals::nginx), ("haproxy", rivals::haproxy)];
        for (name, start) in rivals {
            let Some(program) = rivals::find(name) else {
                self.leave_out(name, Group::Proxied, &format!("not installed (apt-get install {name})"));
                continue;
            };
            let server = Rc::new(start(&program, self.upstream, self.dir, None)?);
            let title = rivals::version(&program);
            self.add(&title, Group::Proxied, None, &server, vec![foreign.clone()], 200);
            self.add(&format!("{title}, a constant"), Group::Local, None, &server, vec![local.clone()], 200);
        }
        Ok(())
    }

    fn gates(&mut self, program: &Path, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        say("starting six gates");
        let proxied = [
            ("Tidegate, every filter but the score", Setting::Filters, Some(1.10)),
            ("Tidegate, scored by the built-in runtime", Setting::Scored, Some(1.25)),
            ("Tidegate, scored by ONNX Runtime", Setting::ScoredOnnx, Some(1.25)),
            ("Tidegate, scored, with a journal", Setting::Journal, None),
        ];
        for (name, setting, target) in proxied {
            let gate = match Gate::start(program, setting, self.upstream, self.dir) {
                Err(_) if setting == Setting::ScoredOnnx => {
                    self.leave_out(name, Group::Proxied, "its library was not found (make onnxruntime)");
                    continue;
                }
                gate => gate.context(name)?,
            };
            let requests = gate.requests(HTML, 200, None).context(name)?;
            self.ready_ms.push(gate.ready_after.as_secs_f64() * 1e3);
            self.add(name, Group::Proxied, target, &Rc::new(gate.server), requests, 200);
        }
        let local = [
            ("Tidegate, a waiting visitor's JSON", Setting::Waiting, 200, "wait"),
            ("Tidegate, 429 of a used-up quota", Setting::Quota, 429, "throttle"),
        ];
        for (name, setting, status, verdict) in local {
            let gate = Gate::start(program, setting, self.upstream, self.dir).context(name)?;
            let requests = gate.requests(JSON, status, Some(verdict)).context(name)?;
            self.ready_ms.push(gate.ready_after.as_secs_f64() * 1e3);
            self.add(name, Group::Local, Some(1.0), &Rc::new(gate.server), requests, status);
        }
        Ok(())
    }

    fn add(&mut self, name: &str, group: Group, target: Option<f64>, server: &Rc<Server>, requests: Vec<Vec<u8>>, status: u16) {
        let row = Row { name: name.into(), group, rounds: vec![], answers: 0, errors: 0, target, left_out: None };
        let target = Target { address: server.address, requests, status };
        self.subjects.push(Subject { row, target, server: server.clone() });
    }

    fn leave_out(&mut self, name: &str, group: Group, why: &str) {
        let left_out = Some(why.into());
        self.left_out.push(Row { name: name.into(), group, rounds: vec![], answers: 0, errors: 0, target: None, left_out });
    }
}

/// How long a gate takes to come back with so many places after `kill -9`.
pub fn restart(program: &Path, places: u32, say: &mut dyn FnMut(&str)) -> anyhow::Result<restart::Restart> {
    restart::run(program, places, &Workplace::new()?.0, say)
}

/// A directory for configurations and logs; gone with the run, unless it failed to start something.
pub(crate) struct Workplace(pub(crate) PathBuf);

impl Workplace {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Workplace(dir))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split(':').nth(1));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores, {}, Linux {}",
        model.unwrap_or("CPU unknown").trim(),
        kernel.split('-').next().unwrap_or_default().trim()
    )
}
