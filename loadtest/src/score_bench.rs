//! `tidegate-loadtest score-bench`: what scores how many visits, on the CPU and on a CUDA device, alone and in blocks; and where
//! the one overtakes the other.

use std::{
    fmt::Write as _,
    fs, hint,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use hdrhistogram::Histogram;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tidegate_filters::{Score, rule::bot_gate::Runtime};
use tidegate_models::{
    Blocks, Scorer,
    batch::BATCH_ROWS_MAX,
    card::sha256_hex,
    features::{self, Features, N},
    onnx_write::{Dense, mlp},
    scorer::{Answer, BUILTIN, Begun},
};

/// Rows a call.
const BLOCKS: [usize; 4] = [1, 64, BATCH_ROWS_MAX, 65_536];
/// Widths of the two hidden layers of made-up networks: 23 thousand, 80 thousand and 1.1 million multiplications.
const HIDDEN: [usize; 3] = [128, 256, 1_024];
/// Visits that wait at the same time.
const TASKS: usize = 2 * BATCH_ROWS_MAX;
/// Tasks that let visits go at a rate.
const PACERS: usize = 64;
/// How long a visit waits: longer than the bot gate's, so that what is slow shows.
const PATIENCE: Duration = Duration::from_secs(1);
const RUNTIMES: [Runtime; 3] = [Runtime::Auto, Runtime::Onnxruntime, Runtime::OnnxruntimeCuda];

/// Arguments of `score-bench`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  TIDEGATE_ONNXRUNTIME=onnxruntime/libonnxruntime.so tidegate-loadtest score-bench")]
pub struct ScoreBenchArgs {
    /// Models to run (.onnx with a card beside each); the shipped one and made-up networks of three sizes when left out.
    models: Vec<String>,
    /// Milliseconds a figure.
    #[arg(long, default_value_t = 700, value_parser = clap::value_parser!(u64).range(10..=10_000))]
    ms: u64,
}

/// Runs all of it.
pub fn run(args: &ScoreBenchArgs) -> anyhow::Result<String> {
    let folder = Made::new()?;
    let budget = Duration::from_millis(args.ms);
    let mut models = args.models.clone();
    if models.is_empty() {
        models.push(BUILTIN.into());
        for width in HIDDEN {
            models.push(folder.network(width)?);
        }
    }
    for model in &models {
        Scorer::open(model, Runtime::Auto, 1).map_err(|e| anyhow::anyhow!("{e}"))?;
    }
    let rows = rows(BLOCKS[BLOCKS.len() - 1]);
    let mut out = device_line();
    out += "\nrows a second in blocks, one thread; –: not on this machine\n\n";
    out += "| model | runs on | 1 row | 64 | 1,024 | 65,536 |\n|---|---|---:|---:|---:|---:|\n";
    let mut said = String::new();
    for model in &models {
        let all = RUNTIMES.map(|r| blocks(model, r, &rows, budget));
        for (runtime, rates) in RUNTIMES.iter().zip(&all) {
            let cells: String = match rates {
                Some(rates) => rates.iter().map(|r| format!(" {} |", grouped(*r))).collect(),
                None => " – |".repeat(BLOCKS.len()),
            };
            let _ = writeln!(out, "| {} | {} |{cells}", name(model), runtime.name());
        }
        said += &format!("\n{}: {}", name(model), crossover(&all));
        if let Some(most) = farthest(model, &rows[..BATCH_ROWS_MAX]) {
            said += &format!("; its scores differ from the CPU's by at most {most:.0e}");
        }
    }
    out += &said;
    out.push('\n');
    out += "\nsingle visits, 2,048 of them wait at the same time; times at half of that rate, which comes in 64 groups each millisecond\n\n";
    out += "| model | by way of | visits a second | p50 µs | p99 µs |\n|---|---|---:|---:|---:|\n";
    for model in &models {
        for (way, scorer) in ways(model) {
            let cells = match scorer {
                Some(scorer) => singles(&Arc::new(scorer), &rows, budget)?,
                None => "– | – | –".into(),
            };
            let _ = writeln!(out, "| {} | {way} | {cells} |", name(model));
        }
    }
    Ok(out)
}

fn device_line() -> String {
    match Blocks::open(BUILTIN, Runtime::OnnxruntimeCuda) {
        Ok(blocks) => blocks.warning().map_or("a CUDA device is there\n".into(), |why| format!("no device: {why}\n")),
        Err(e) => format!("no device: {e}\n"),
    }
}

/// Rows a second for each of [`BLOCKS`]; `None`: that runtime is not there.
fn blocks(model: &str, runtime: Runtime, rows: &[Features], budget: Duration) -> Option<[f64; BLOCKS.len()]> {
    let mut blocks = Blocks::open(model, runtime).ok()?;
    if runtime == Runtime::OnnxruntimeCuda && !blocks.on_device() {
        return None;
    }
    Some(BLOCKS.map(|size| {
        let block = rows[..size].as_flattened();
        // The first one allocates, which a large one, seconds on the CPU, does not notice.
        if size <= BATCH_ROWS_MAX {
            hint::black_box(blocks.scores(block));
        }
        let (began, mut done) = (Instant::now(), 0);
        while began.elapsed() < budget {
            hint::black_box(blocks.scores(hint::black_box(block)));
            done += size;
        }
        done as f64 / began.elapsed().as_secs_f64()
    }))
}

/// Largest difference of a score between device and CPU; `None`: there is no device.
fn farthest(model: &str, rows: &[Features]) -> Option<f32> {
    let mut both = [Runtime::Auto, Runtime::OnnxruntimeCuda].map(|r| Blocks::open(model, r).ok());
    let [Some(cpu), Some(device)] = &mut both else { return None };
    let (cpu, said) = (cpu.scores(rows.as_flattened()), device.scores(rows.as_flattened()));
    let most = cpu.iter().zip(&said).filter_map(|(a, b)| Some(((*a)? - (*b)?).abs())).fold(0.0, f32::max);
    device.on_device().then_some(most)
}

/// From which block on the device is worth it, in words.
fn crossover(all: &[Option<[f64; BLOCKS.len()]>; RUNTIMES.len()]) -> String {
    let [auto, cpu, Some(cuda)] = all else { return "no device to compare the CPU with".into() };
    let best = |i: usize| auto.iter().chain(cpu).map(|r| r[i]).fold(0.0, f64::max);
    match (0..BLOCKS.len()).find(|i| cuda[*i] > best(*i)) {
        None => "the CPU is faster than the device in blocks of every size above".into(),
        Some(0) => "the device is faster than the CPU from single rows on".into(),
        Some(i) => {
            format!("the device is faster than the CPU in blocks of {} rows, the CPU in those of {}", BLOCKS[i], BLOCKS[i - 1])
        }
    }
}

/// Inline, through the batcher with the CPU behind it, and through the batcher with the device.
fn ways(model: &str) -> [(&'static str, Option<Scorer>); 3] {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let inline = Scorer::open(model, Runtime::Auto, workers).ok();
    let on_cpu = Blocks::open(model, Runtime::Auto).and_then(|b| Scorer::open_with(model, Runtime::Auto, workers, Box::new(b)));
    let device = Scorer::open(model, Runtime::OnnxruntimeCuda, workers).ok();
    let device = device.filter(|s| s.runs_on() == Runtime::OnnxruntimeCuda);
    [("inline, CPU", inline), ("batches, CPU", on_cpu.ok()), ("batches, CUDA", device)]
}

/// Visits a second as fast as they come, then the times at half of that.
fn singles(scorer: &Arc<Scorer>, rows: &[Features], budget: Duration) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().context("starting a runtime")?;
    let full = runtime.block_on(storm(scorer, rows, budget))?;
    let times = runtime.block_on(paced(scorer, rows, budget, full / 2.0))?;
    let us = |q: f64| times.value_at_quantile(q) as f64 / 1_000.0;
    Ok(format!("{} | {:.1} | {:.1}", grouped(full), us(0.5), us(0.99)))
}

/// [`TASKS`] tasks score one visit after the other. Visits a second.
async fn storm(scorer: &Arc<Scorer>, rows: &[Features], budget: Duration) -> anyhow::Result<f64> {
    let began = Instant::now();
    let task = |i: usize| {
        let (scorer, row) = (scorer.clone(), rows[i % rows.len()]);
        tokio::spawn(async move {
            let mut done = 0_u64;
            while began.elapsed() < budget {
                done += u64::from(settled(&scorer, scorer.begin(&row, PATIENCE)).await);
                tokio::task::yield_now().await;
            }
            done
        })
    };
    let mut all = 0;
    for task in (0..TASKS).map(task).collect::<Vec<_>>() {
        all += task.await?;
    }
    Ok(all as f64 / began.elapsed().as_secs_f64())
}

/// [`PACERS`] tasks let their share of a rate go each millisecond, whether those before are answered or not. How long each
/// visit took, nanoseconds.
async fn paced(scorer: &Arc<Scorer>, rows: &[Features], budget: Duration, rate: f64) -> anyhow::Result<Histogram<u64>> {
    let times = Arc::new(Mutex::new(Histogram::<u64>::new(2)?));
    let began = Instant::now();
    let pacer = |i: usize| {
        let (scorer, times, row) = (scorer.clone(), times.clone(), rows[i % rows.len()]);
        tokio::spawn(async move {
            let (mut groups, mut sent) = (Vec::new(), 0.0);
            let mut beat = tokio::time::interval(Duration::from_millis(1));
            while began.elapsed() < budget {
                beat.tick().await;
                let due = (began.elapsed().as_secs_f64() * rate / PACERS as f64).floor();
                groups.push(tokio::spawn(group(scorer.clone(), times.clone(), row, (due - sent) as usize)));
                sent = due;
            }
            for group in groups {
                group.await??;
            }
            anyhow::Ok(())
        })
    };
    for pacer in (0..PACERS).map(pacer).collect::<Vec<_>>() {
        pacer.await??;
    }
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(times.clone())
}

/// Visits that come in the same moment.
async fn group(scorer: Arc<Scorer>, times: Arc<Mutex<Histogram<u64>>>, row: Features, visits: usize) -> anyhow::Result<()> {
    let mut took = Vec::with_capacity(visits);
    let begin = || {
        let (asked, begun) = (Instant::now(), scorer.begin(&row, PATIENCE));
        let inline = matches!(begun, Begun::Ready(_)).then(|| asked.elapsed());
        (asked, inline, begun)
    };
    for (asked, inline, begun) in (0..visits).map(|_| begin()).collect::<Vec<_>>() {
        let scored = settled(&scorer, begun).await;
        let took_ns = inline.unwrap_or_else(|| asked.elapsed()).as_nanos() as u64;
        // Without a score it took for ever.
        took.push(if scored { took_ns } else { PATIENCE.as_nanos() as u64 });
    }
    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
    took.into_iter().try_for_each(|ns| times.record(ns))?;
    Ok(())
}

/// As the gate does it; whether there is a score.
async fn settled(scorer: &Scorer, begun: Begun) -> bool {
    let score = match begun {
        Begun::Ready(score) => score,
        Begun::Pending(ticket) => scorer.settle(ticket.await.unwrap_or(Answer::Failed)),
    };
    score != Score::Unknown
}

fn rows(n: usize) -> Vec<Features> {
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    (0..n).map(|_| std::array::from_fn(|_| rng.random_range(-1.0..1.0))).collect()
}

fn name(model: &str) -> &str {
    Path::new(model).file_stem().and_then(|n| n.to_str()).unwrap_or(model)
}

/// Three digits and their thousands.
fn grouped(rate: f64) -> String {
    match rate {
        r if r >= 1e7 => format!("{:.0} M", r / 1e6),
        r if r >= 1e6 => format!("{:.1} M", r / 1e6),
        r if r >= 1e4 => format!("{:.0} k", r / 1e3),
        r => format!("{r:.0}"),
    }
}

/// A folder of made-up networks; removed when dropped.
struct Made(PathBuf);

impl Made {
    fn new() -> anyhow::Result<Made> {
        let folder = std::env::temp_dir().join(format!("tidegate-score-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Made(folder))
    }

    fn network(&self, width: usize) -> anyhow::Result<String> {
        let mut rng = rand::rngs::StdRng::seed_from_u64(width as u64);
        let mut layer = |inputs: usize, outputs: usize| {
            let reach = (3.0 / inputs as f32).sqrt();
            let weights = (0..inputs * outputs).map(|_| rng.random_range(-reach..reach)).collect();
            Dense { inputs, outputs, weights, bias: vec![0.0; outputs] }
        };
        let bytes = mlp(&[layer(N, width), layer(width, width), layer(width, 1)], &[]);
        let path = self.0.join(format!("{N}-{width}-{width}-1.onnx"));
        let card = json!({ "model_sha256": sha256_hex(&bytes), "features_sha256": features::hash() });
        fs::write(&path, bytes).and_then(|()| fs::write(path.with_extension("json"), card.to_string()))?;
        Ok(path.display().to_string())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // A temporary folder: the system removes it some day.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_runs_without_a_device_and_says_so() {
        let out = run(&ScoreBenchArgs { models: vec![BUILTIN.into()], ms: 10 }).unwrap();
        let there = out.starts_with("a CUDA device is there");
        assert!(there || out.starts_with("no device: "), "{out}");
        assert_eq!(out.contains("\nbuiltin: no device to compare the CPU with\n"), !there, "{out}");
        assert!(out.contains("| builtin | inline, CPU | ") && out.contains("| builtin | batches, CPU | "), "{out}");
    }

    #[test]
    fn a_visit_takes_time() {
        let scorer = Arc::new(Scorer::open(BUILTIN, Runtime::Builtin, 2).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let rate = runtime.block_on(storm(&scorer, &rows(8), Duration::from_millis(20))).unwrap();
        let times = runtime.block_on(paced(&scorer, &rows(8), Duration::from_millis(20), 20_000.0)).unwrap();
        assert!(rate > 0.0 && !times.is_empty() && times.min() > 100, "{rate} {}", times.min());
    }

    #[test]
    fn the_crossover_is_the_first_block_in_which_the_device_wins() {
        let cpu = Some([10.0; 4]);
        assert_eq!(
            crossover(&[cpu, None, Some([1.0, 9.0, 11.0, 99.0])]),
            "the device is faster than the CPU in blocks of 1024 rows, the CPU in those of 64"
        );
        assert!(crossover(&[cpu, None, Some([11.0; 4])]).ends_with("from single rows on"));
        assert!(crossover(&[cpu, cpu, Some([1.0; 4])]).starts_with("the CPU is faster"));
        assert!(crossover(&[cpu, cpu, None]).starts_with("no device"));
    }
}
