//! Batches by size and by time, answers to whom they belong, and every way a device can fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    path::Path,
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
};

use tidegate_filters::{Score, rule::bot_gate::Runtime};

use super::*;
use crate::{
    Blocks, Scorer,
    device::Device,
    opened::Opened,
    scorer::{Answer, BUILTIN, Begun},
    session::RunError,
};

/// What a made-up device does with a batch.
enum Act {
    /// Says the row's first feature.
    Echo,
    Fail,
    Panic,
    /// Says one thing too many.
    Miscount,
}

/// Tells how many rows it got, then waits for its orders; without any it answers.
struct Made {
    got: Sender<usize>,
    orders: Mutex<Receiver<Act>>,
}

impl Device for Made {
    fn run_block(&mut self, rows: &[f32], out: &mut Vec<f32>) -> Result<(), RunError> {
        let _ = self.got.send(rows.len() / N);
        out.clear();
        match self.orders.lock().unwrap().recv().unwrap_or(Act::Echo) {
            Act::Echo => out.extend(rows.iter().step_by(N)),
            Act::Fail => return Err(RunError::Failed("CUDA error 719".into())),
            Act::Panic => panic!("on purpose"),
            Act::Miscount => out.extend([0.5].repeat(rows.len() / N + 1)),
        }
        Ok(())
    }
}

fn made() -> (Made, Receiver<usize>, Sender<Act>) {
    let ((got, sizes), (orders, theirs)) = (channel(), channel());
    (Made { got, orders: Mutex::new(theirs) }, sizes, orders)
}

/// A batcher over the shipped model with a made-up device.
fn batcher() -> (Batcher, Receiver<usize>, Sender<Act>) {
    let (device, sizes, orders) = made();
    let cpu = Opened::read(BUILTIN, Runtime::Builtin).unwrap().session().unwrap();
    (Batcher::start(Backed::new(Some(Box::new(device)), cpu, N)).unwrap(), sizes, orders)
}

/// The same below a scorer.
fn scorer() -> (Scorer, Receiver<usize>, Sender<Act>) {
    let (device, sizes, orders) = made();
    (Scorer::open_with(BUILTIN, Runtime::Builtin, 1, Box::new(device)).unwrap(), sizes, orders)
}

/// Rows that differ.
fn row(i: usize) -> Features {
    let mut row = [0.0; N];
    row.iter_mut().enumerate().for_each(|(k, x)| *x = ((i * 7 + k * 3) % 23) as f32 / 12.0 - 1.0);
    row[0] = i as f32 / 100_000.0;
    row
}

/// Far longer than anything takes: a test that would hang fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        thread::yield_now();
    }
}

fn said(ticket: Ticket) -> f32 {
    match answer(ticket) {
        Answer::Said(said) => said,
        other => panic!("{other:?}"),
    }
}

fn answer(mut ticket: Ticket) -> Answer {
    let began = Instant::now();
    loop {
        match ticket.try_recv() {
            Ok(answer) => return answer,
            Err(oneshot::error::TryRecvError::Closed) => panic!("lost"),
            Err(oneshot::error::TryRecvError::Empty) => assert!(began.elapsed() < PATIENCE, "nobody answers"),
        }
        thread::yield_now();
    }
}

fn pending(scorer: &Scorer, row: &Features) -> Ticket {
    match scorer.begin(row, PATIENCE) {
        Begun::Pending(ticket) => ticket,
        Begun::Ready(score) => panic!("inline: {score:?}"),
    }
}

#[test]
fn a_batch_goes_when_it_is_full_and_everybody_gets_the_answer_to_his_row() {
    let (batcher, sizes, orders) = batcher();
    let first = batcher.push(row(0), PATIENCE).unwrap();
    assert_eq!(sizes.recv().unwrap(), 1, "alone, since nobody else came");
    // While that one runs.
    let rest: Vec<Ticket> = (1..=BATCH_ROWS_MAX + 500).map(|i| batcher.push(row(i), PATIENCE).unwrap()).collect();
    drop(orders);
    let answers: Vec<f32> = [first].into_iter().chain(rest).map(said).collect();
    drop(batcher);
    assert_eq!(sizes.iter().collect::<Vec<_>>(), [BATCH_ROWS_MAX, 500]);
    assert!(answers.iter().enumerate().all(|(i, said)| *said == row(i)[0]));
}

#[test]
fn a_batch_goes_by_time_though_it_is_never_full() {
    let (batcher, sizes, orders) = batcher();
    drop(orders);
    for i in 0..50 {
        let tickets = [batcher.push(row(i), PATIENCE).unwrap(), batcher.push(row(i + 100), PATIENCE).unwrap()];
        assert_eq!(tickets.map(said), [row(i)[0], row(i + 100)[0]]);
    }
    let rows: usize = sizes.try_iter().sum();
    assert_eq!(rows, 100, "each row once");
}

#[test]
fn a_full_queue_turns_rows_away_at_once_and_counts_them() {
    let (scorer, sizes, orders) = scorer();
    let held = pending(&scorer, &row(0));
    sizes.recv().unwrap();
    let queued: Vec<Ticket> = (0..QUEUE_ROWS_MAX).map(|i| pending(&scorer, &row(i))).collect();
    let away = 2 * QUEUE_ROWS_MAX;
    assert!((0..away).all(|_| matches!(scorer.begin(&row(1), PATIENCE), Begun::Ready(Score::Unknown))));
    assert_eq!(scorer.counts().queue_full, away as u64);
    drop(orders);
    assert!([held].into_iter().chain(queued).all(|t| said(t) >= 0.0), "those who are in are answered");
    assert!(matches!(scorer.begin(&row(1), PATIENCE), Begun::Pending(_)), "there is room again");
}

#[test]
fn a_device_that_fails_or_panics_midway_loses_nobody_and_the_cpu_goes_on_inline() {
    for act in [Act::Fail, Act::Panic, Act::Miscount] {
        let (scorer, sizes, orders) = scorer();
        let inline = Scorer::open(BUILTIN, Runtime::Builtin, 1).unwrap();
        assert_eq!(scorer.runs_on(), Runtime::OnnxruntimeCuda);
        orders.send(Act::Echo).unwrap();
        assert_eq!(said(pending(&scorer, &row(7))), row(7)[0]);
        let first = pending(&scorer, &row(0));
        assert_eq!(sizes.iter().take(2).collect::<Vec<_>>(), [1, 1]);
        let rest: Vec<Ticket> = (1..=BATCH_ROWS_MAX + 10).map(|i| pending(&scorer, &row(i))).collect();
        orders.send(act).unwrap();
        for (i, ticket) in [first].into_iter().chain(rest).enumerate() {
            assert_eq!(scorer.settle(Answer::Said(said(ticket))), inline.score(&row(i)), "row {i}, to the bit");
        }
        assert_eq!(sizes.try_iter().count(), 0, "the device is not asked again");
        // The thread says so after it has answered.
        until("the device is given up", || scorer.runs_on() != Runtime::OnnxruntimeCuda);
        let Begun::Ready(score) = scorer.begin(&row(3), PATIENCE) else { panic!("still batched") };
        assert_eq!((score, scorer.runs_on()), (inline.score(&row(3)), Runtime::Builtin));
        assert!(scorer.describe().contains("CUDA was given up"), "{}", scorer.describe());
    }
}

#[test]
fn a_device_that_stays_silent_is_given_up_after_a_while_of_late_answers() {
    let (scorer, sizes, orders) = scorer();
    let stuck = pending(&scorer, &row(0));
    sizes.recv().unwrap();
    let behind = pending(&scorer, &row(1));
    // A whole crowd is late by the same hiccup: that says nothing yet.
    (0..10 * LATE_VISITS).for_each(|_| assert_eq!(scorer.settle(Answer::Late), Score::Unknown));
    assert_eq!(scorer.runs_on(), Runtime::OnnxruntimeCuda);
    thread::sleep(LATE_FOR);
    assert_eq!(scorer.settle(Answer::Said(0.5)), Score::Known(0.5));
    (0..10 * LATE_VISITS).for_each(|_| assert_eq!(scorer.settle(Answer::Late), Score::Unknown));
    assert_eq!(scorer.runs_on(), Runtime::OnnxruntimeCuda, "one in time is forgiven much");
    thread::sleep(LATE_FOR);
    scorer.settle(Answer::Late);
    assert_eq!((scorer.runs_on(), scorer.counts().late), (Runtime::Builtin, 20 * LATE_VISITS + 1));
    assert!(matches!(scorer.begin(&row(2), PATIENCE), Begun::Ready(Score::Known(_))), "inline at once");
    // It wakes up, much too late: still nobody is lost.
    orders.send(Act::Fail).unwrap();
    let inline = Scorer::open(BUILTIN, Runtime::Builtin, 1).unwrap();
    for (i, ticket) in [stuck, behind].into_iter().enumerate() {
        assert_eq!(Score::Known(said(ticket)), inline.score(&row(i)));
    }
}

#[test]
fn whose_time_is_over_is_told_so_in_flight_and_behind_it() {
    let (batcher, sizes, orders) = batcher();
    let short = Duration::from_millis(30);
    let began = Instant::now();
    let [flies, flies_long] = [batcher.push(row(0), short).unwrap(), batcher.push(row(1), PATIENCE).unwrap()];
    assert_eq!(sizes.recv().unwrap(), 2);
    let behind: Vec<Ticket> = (2..3_000).map(|i| batcher.push(row(i), short).unwrap()).collect();
    let last = batcher.push(row(9_999), PATIENCE).unwrap();
    assert!([flies].into_iter().chain(behind).all(|t| answer(t) == Answer::Late), "though the device says nothing");
    assert!(began.elapsed() >= short, "not before");
    assert_eq!(batcher.inner.waiting.load(Acquire), 1, "who has time still waits, and there is room for others");
    drop(orders);
    assert_eq!([flies_long, last].map(said), [row(1)[0], row(9_999)[0]]);
    assert_eq!(sizes.recv().unwrap(), 1, "nothing is computed for who is late");
}

#[test]
fn who_flies_when_the_batcher_goes_and_its_device_is_silent_is_told_too() {
    let (batcher, sizes, orders) = batcher();
    let flies = batcher.push(row(0), Duration::from_millis(30)).unwrap();
    sizes.recv().unwrap();
    drop(batcher);
    assert_eq!(answer(flies), Answer::Late);
    drop(orders);
}

/// Says which thread warmed it, and fails or panics at that if it is told to.
struct Cold {
    warmed_by: Option<thread::ThreadId>,
    how: fn() -> Result<(), RunError>,
}

impl Device for Cold {
    fn run_block(&mut self, rows: &[f32], out: &mut Vec<f32>) -> Result<(), RunError> {
        let warm = self.warmed_by == Some(thread::current().id());
        *out = vec![if warm { 0.5 } else { 0.0 }; rows.len() / N];
        Ok(())
    }

    fn warm(&mut self) -> Result<(), RunError> {
        self.warmed_by = Some(thread::current().id());
        (self.how)()
    }
}

#[test]
fn a_device_is_warm_for_the_thread_that_runs_it_before_the_first_visit_or_there_is_none() {
    let start = |how| {
        let cpu = Opened::read(BUILTIN, Runtime::Builtin).unwrap().session().unwrap();
        Batcher::start(Backed::new(Some(Box::new(Cold { warmed_by: None, how })), cpu, N))
    };
    let batcher = start(|| Ok(())).unwrap();
    assert_eq!(said(batcher.push(row(0), PATIENCE).unwrap()), 0.5);
    assert_eq!(start(|| Err(RunError::Failed("out of memory".into()))).err().unwrap(), "out of memory");
    assert!(start(|| panic!("on purpose")).err().unwrap().contains("on purpose"));
}

#[test]
fn a_batcher_that_sleeps_wakes_for_a_visit() {
    let (batcher, sizes, orders) = batcher();
    for act in [Act::Echo, Act::Echo, Act::Fail] {
        until("the watching thread sleeps", || batcher.inner.watch_sleeps.load(Acquire) && !batcher.inner.held().is_flying());
        thread::sleep(Duration::from_millis(5));
        let late = batcher.push(row(3), Duration::from_millis(20)).unwrap();
        sizes.recv().unwrap();
        assert_eq!(answer(late), Answer::Late);
        let behind = batcher.push(row(4), Duration::from_millis(20)).unwrap();
        assert_eq!(answer(behind), Answer::Late, "though nobody waits for the batch that runs");
        orders.send(act).unwrap();
    }
}

#[test]
fn nobody_is_asked_for_who_has_gone() {
    let (batcher, sizes, orders) = batcher();
    let held = batcher.push(row(0), PATIENCE).unwrap();
    sizes.recv().unwrap();
    drop((0..10).map(|i| batcher.push(row(i), PATIENCE).unwrap()).collect::<Vec<_>>());
    let last = batcher.push(row(99), PATIENCE).unwrap();
    drop(orders);
    assert_eq!([held, last].map(said), [row(0)[0], row(99)[0]]);
    assert_eq!(sizes.try_iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn who_waits_when_the_batcher_goes_is_answered_and_the_thread_ends() {
    let (batcher, sizes, orders) = batcher();
    let mut tickets = vec![batcher.push(row(0), PATIENCE).unwrap()];
    sizes.recv().unwrap();
    tickets.extend((1..3_000).map(|i| batcher.push(row(i), PATIENCE).unwrap()));
    drop(batcher);
    drop(orders);
    assert!(tickets.into_iter().enumerate().all(|(i, t)| said(t) == row(i)[0]));
    // The device went with its thread.
    assert_eq!(sizes.iter().sum::<usize>(), 2_999);
}

#[test]
fn many_visits_at_the_same_time_lose_nothing() {
    let (batcher, _sizes, orders) = batcher();
    drop(orders);
    thread::scope(|scope| {
        for t in 0..4 {
            let batcher = &batcher;
            scope.spawn(move || {
                for i in (t * 5_000..(t + 1) * 5_000).step_by(10) {
                    let some: Vec<Ticket> = (i..i + 10).map(|i| batcher.push(row(i), PATIENCE).unwrap()).collect();
                    assert!(some.into_iter().enumerate().all(|(k, t)| said(t) == row(i + k)[0]));
                }
            });
        }
    });
    assert_eq!(batcher.inner.waiting.load(Acquire), 0);
}

/// As the gate's workers do: tasks of one runtime with many threads, and of one that is a single thread.
#[test]
fn tasks_of_several_runtimes_are_answered_each_in_its_own() {
    let (batcher, _sizes, orders) = batcher();
    drop(orders);
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
    let batcher = Arc::new(batcher);
    let visits = |from: usize| {
        let batcher = batcher.clone();
        async move {
            let one = |i: usize| {
                let batcher = batcher.clone();
                let visit = async move { tokio::time::timeout(PATIENCE, batcher.push(row(i), PATIENCE).unwrap()).await };
                tokio::spawn(async move { (i, visit.await) })
            };
            for task in (from..from + 3_000).map(one).collect::<Vec<_>>() {
                let (i, said) = task.await.unwrap();
                assert_eq!(said.expect("nobody answers"), Ok(Answer::Said(row(i)[0])));
            }
        }
    };
    thread::scope(|scope| {
        let single = visits(50_000);
        scope.spawn(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(single));
        many.block_on(visits(0));
    });
    assert_eq!(batcher.inner.waiting.load(Acquire), 0);
}

#[test]
fn without_a_device_the_cpu_scores_and_says_why() {
    if crate::testing::onnxruntime().is_none() {
        return;
    }
    let scorer = Scorer::open(BUILTIN, Runtime::OnnxruntimeCuda, 1).unwrap();
    if scorer.runs_on() == Runtime::OnnxruntimeCuda {
        let Begun::Pending(ticket) = scorer.begin(&row(1), PATIENCE) else { panic!("inline") };
        let (device, cpu) = (said(ticket), scorer.score(&row(1)).known().unwrap());
        assert!((device - cpu).abs() <= 1e-6, "{device} on the device, {cpu} on the CPU");
        return;
    }
    let inline = Scorer::open(BUILTIN, Runtime::Auto, 1).unwrap();
    let Begun::Ready(score) = scorer.begin(&row(1), PATIENCE) else { panic!("there is no device") };
    assert_eq!(score, inline.score(&row(1)));
    assert!(scorer.describe().contains("; no CUDA device (") && scorer.describe().ends_with("the CPU scores"));
    let warning = Blocks::open(BUILTIN, Runtime::OnnxruntimeCuda).unwrap().warning().unwrap();
    assert!(warning.contains("CUDA") && warning.contains("make onnxruntime-cuda"), "{warning}");
}

/// Every kind of model, single and in blocks, on every runtime that is there.
#[test]
fn blocks_say_what_single_rows_say() {
    let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign");
    let file = |name: &str| foreign.join(format!("{name}.onnx")).display().to_string();
    let models = [BUILTIN.to_owned(), file("bots-torch"), file("bots-lightgbm"), file("bots-forest"), file("bots-svm")];
    let rows: Vec<Features> = (0..1_500).map(row).collect();
    let mut ran = 0;
    for runtime in [Runtime::Builtin, Runtime::Auto, Runtime::Onnxruntime] {
        for model in &models {
            let (Ok(mut blocks), Ok(scorer)) = (Blocks::open(model, runtime), Scorer::open(model, runtime, 1)) else { continue };
            ran += 1;
            for (row, block) in rows.iter().zip(blocks.scores(rows.as_flattened())) {
                let (single, block) = (scorer.score(row).known().unwrap(), block.unwrap());
                assert!((single - block).abs() <= 1e-6, "{}: {single} alone, {block} in a block", scorer.describe());
            }
        }
    }
    let all = if crate::testing::onnxruntime().is_some() { 12 } else { 4 };
    assert_eq!(ran, all, "the shipped model and PyTorch's run everywhere, the others on ONNX Runtime");
}
