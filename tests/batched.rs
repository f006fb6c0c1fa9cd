//! `runtime: onnxruntime-cuda` over real sockets: a machine without a device, and devices that are made up.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use tidegate_filters::rule::bot_gate::Runtime;
use tidegate_gateway::{scoring::Scoring, state::ScorerSlot};
use tidegate_models::{
    Scorer,
    device::Device,
    features::N,
    scorer::BUILTIN,
    session::{Engine, RunError},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    stock::until,
    support::{Client, Gate, Shop, admin, gate, skip},
};

/// Who scores 0.9 or more is refused, who has no score waits for a challenge: the answer tells what the scorer said.
const POLICY: &str = r#"
version: 1
listen: [ { address: 127.0.0.1:0 }, { address: 127.0.0.1:0, tls: { certificate: "{dir}/cert.pem", key: "{dir}/key.pem" } } ]
admin: { address: 127.0.0.1:0, token_file: "{dir}/admin.token" }
shop: { upstreams: [ { address: "{shop}" } ] }
filters:
  - bot_gate: { refuse_at: 0.9, when_unscored: challenge, runtime: {runtime}, deadline: {deadline} }
"#;

struct Site {
    gate: Gate,
    tls: ClientConfig,
    dir: tempfile::TempDir,
    _shop: Shop,
}

impl Site {
    fn start(runtime: &str, deadline: &str) -> Site {
        let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
        let made = rcgen::generate_simple_self_signed(vec!["shop.example".into()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let text = POLICY.replace("{runtime}", runtime).replace("{deadline}", deadline);
        Site { gate: gate(&text, shop.address, dir.path()), tls, dir, _shop: shop }
    }

    /// Status and verdict of a visit over HTTP/1.
    fn http1(&self) -> (u16, String) {
        visit(self.gate.addresses()[0])
    }

    /// The same over HTTP/2, `n` at once on one connection.
    fn http2(&self, n: usize) -> Vec<(u16, String)> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let tcp = TcpStream::connect(self.gate.addresses()[1]).await.unwrap();
            let tls = TlsConnector::from(Arc::new(self.tls.clone()));
            let tls = tls.connect("shop.example".try_into().unwrap(), tcp).await.unwrap();
            let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
            tokio::spawn(connection);
            let one = |i: usize| {
                let mut send = send.clone();
                tokio::spawn(async move {
                    let request = Request::get(format!("https://shop.example/{i}")).body(Empty::<Bytes>::new()).unwrap();
                    let answer = send.send_request(request).await.unwrap();
                    let verdict = answer.headers().get("tidegate-verdict").map_or("forward", |v| v.to_str().unwrap());
                    (answer.status().as_u16(), verdict.to_owned())
                })
            };
            let mut all = vec![];
            for task in (0..n).map(one).collect::<Vec<_>>() {
                all.push(task.await.unwrap());
            }
            all
        })
    }

    /// From now on this scorer scores, as after a load of a policy.
    fn score_by(&self, scorer: &Arc<Scorer>) {
        let shared = &self.gate.control().shared;
        let source = Scoring::by(scorer.clone()).source(&shared.active.load().policy);
        shared.scorer.store(Arc::new(ScorerSlot(source)));
    }

    fn metric(&self, line: &str) -> bool {
        self.gate.control().metrics_text().lines().any(|l| l == line)
    }

    fn scorer_in_status(&self) -> String {
        let status = admin(&self.gate, self.dir.path(), "GET", "/v1/status", "").json();
        status["policy"]["scorer"].as_str().unwrap().to_owned()
    }
}

fn visit(address: std::net::SocketAddr) -> (u16, String) {
    let answer = Client::app(address).get("/");
    (answer.status, answer.header("tidegate-verdict").unwrap_or("forward").to_owned())
}

/// Says the same of every row of a batch, or breaks.
struct Does<F>(F);

impl<F: FnMut(usize) -> Option<f32> + Send> Device for Does<F> {
    fn run_block(&mut self, rows: &[f32], out: &mut Vec<f32>) -> Result<(), RunError> {
        out.clear();
        match (self.0)(rows.len() / N) {
            Some(score) => out.extend(vec![score; rows.len() / N]),
            None => return Err(RunError::Failed("the device has fallen off the bus".into())),
        }
        Ok(())
    }
}

fn by(device: impl FnMut(usize) -> Option<f32> + Send + 'static) -> Arc<Scorer> {
    Arc::new(Scorer::open_with(BUILTIN, Runtime::Builtin, 2, Box::new(Does(device))).unwrap())
}

/// A device that tells how many rows it got and then waits to be told what to say.
fn made() -> (Arc<Scorer>, Receiver<usize>, Sender<Option<f32>>) {
    let ((got, sizes), (orders, theirs)) = (channel(), channel());
    let scorer = by(move |rows| {
        let _ = got.send(rows);
        theirs.recv().unwrap_or(None)
    });
    (scorer, sizes, orders)
}

fn refused() -> (u16, String) {
    (403, "refuse".into())
}

/// It has a score, whatever that is: without one it would be challenged.
fn is_known(answer: &(u16, String)) -> bool {
    *answer == (200, "forward".into()) || *answer == refused()
}

#[test]
fn without_a_device_the_gate_serves_and_scores_on_the_cpu_and_says_so() {
    if Engine::choose(Runtime::Onnxruntime).is_err() {
        return skip("onnxruntime", "no ONNX Runtime (make onnxruntime, or set TIDEGATE_ONNXRUNTIME)");
    }
    if Scorer::open(BUILTIN, Runtime::OnnxruntimeCuda, 1).unwrap().runs_on() == Runtime::OnnxruntimeCuda {
        return skip("no-cuda", "this machine has a device");
    }
    let site = Site::start("onnxruntime-cuda", "1s");
    assert!(is_known(&site.http1()) && site.http2(5).iter().all(is_known));
    let said = site.scorer_in_status();
    assert!(said.contains("; no CUDA device (") && said.ends_with("the CPU scores"), "{said}");
    assert!(site.metric("tidegate_scores_on_cuda 0") && site.metric("tidegate_score_batches_total 0"));
    // Rows are made once the answer is out.
    until("every visit has a score", || site.metric("tidegate_score_count 6"));
    site.gate.stop().unwrap();
}

#[test]
fn a_visit_waits_for_the_device_over_both_protocols_and_is_judged_by_what_it_says() {
    let site = Site::start("builtin", "1s");
    let says = Arc::new(AtomicU32::new(0));
    let theirs = says.clone();
    let scorer = by(move |_| Some(f32::from_bits(theirs.load(Ordering::SeqCst))));
    site.score_by(&scorer);
    for (round, score) in (1..).zip([0.95f32, 0.1, 0.95]) {
        says.store(score.to_bits(), Ordering::SeqCst);
        let want = if score > 0.9 { refused() } else { (200, "forward".into()) };
        assert_eq!(site.http1(), want);
        assert!(site.http2(20).iter().all(|a| *a == want));
        until("every visit has a score", || site.metric(&format!("tidegate_score_count {}", 21 * round)));
    }
    assert!(scorer.counts().batches > 0);
}

#[test]
fn a_device_that_is_silent_costs_the_deadline_and_one_that_breaks_costs_nothing() {
    let site = Site::start("builtin", "20ms");
    let (scorer, sizes, orders) = made();
    site.score_by(&scorer);
    assert_eq!(site.http1(), (403, "challenge".into()), "without a score: as the policy says");
    assert_eq!(site.http2(1), [(403, "challenge".into())]);
    assert_eq!((scorer.counts().late, scorer.counts().scored), (2, 0));
    sizes.recv().unwrap();
    orders.send(None).unwrap();
    until("the device is given up", || scorer.runs_on() != Runtime::OnnxruntimeCuda);
    assert!(is_known(&site.http1()) && site.http2(5).iter().all(is_known), "the CPU scores them");
    assert_eq!(scorer.counts().late, 2);
    assert!(scorer.describe().contains("CUDA was given up (the device has fallen off the bus)"), "{}", scorer.describe());
}

#[test]
fn who_waits_when_the_model_is_swapped_or_the_gate_stops_is_answered_by_whom_he_asked() {
    let site = Site::start("builtin", "1s");
    let address = site.gate.addresses()[0];
    let ((old, old_got, old_orders), (new, new_got, new_orders)) = (made(), made());
    site.score_by(&old);
    let waiting = std::thread::spawn(move || visit(address));
    assert_eq!(old_got.recv().unwrap(), 1);
    site.score_by(&new);
    // The gate holds the last handle on what it asked.
    drop(old);
    let later = std::thread::spawn(move || visit(address));
    assert_eq!(new_got.recv().unwrap(), 1);
    new_orders.send(Some(0.1)).unwrap();
    assert_eq!(later.join().unwrap(), (200, "forward".into()));
    old_orders.send(Some(0.95)).unwrap();
    assert_eq!(waiting.join().unwrap(), refused());
    assert!(old_got.recv().is_err(), "its thread has ended");

    let waiting = std::thread::spawn(move || visit(address));
    assert_eq!(new_got.recv().unwrap(), 1);
    let stopping = std::thread::spawn(move || site.gate.stop());
    new_orders.send(Some(0.95)).unwrap();
    assert_eq!(waiting.join().unwrap(), refused());
    stopping.join().unwrap().unwrap();
}

#[test]
fn the_words_are_known_to_check_and_explain() {
    let dir = tempfile::tempdir().unwrap();
    let text = POLICY.replace("{runtime}", "onnxruntime-cuda").replace("{deadline}", "5ms").replace("{shop}", "127.0.0.1:1");
    let plain = "listen: [ { address: 127.0.0.1:0 } ]";
    let text: String = text.lines().map(|l| if l.starts_with("listen") { plain } else { l }.to_owned() + "\n").collect();
    let file = dir.path().join("policy.yaml");
    std::fs::write(&file, text.replace("{dir}", &dir.path().display().to_string())).unwrap();
    let ran = |command: &str, file: &Path| crate::program::text(&crate::program::run(&[command, file.to_str().unwrap()]));
    let checked = ran("check", &file);
    assert!(checked.contains("filters[0].bot_gate.runtime: the CPU runs the shipped model in microseconds"), "{checked}");
    assert!(ran("explain", &file).contains("on a CUDA device, visits in batches; without one on the CPU"));
}
