//! Permits, waiters, shares.

#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn first_come_first_served() {
    let limit = Arc::new(InFlight::new(1, 10));
    let first = limit.acquire(None, LONG).await.unwrap();
    let (tx, mut order) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = vec![];
    for i in 0..5 {
        let (limit2, tx) = (limit.clone(), tx.clone());
        tasks.push(tokio::spawn(async move {
            let permit = limit2.acquire(None, LONG).await.unwrap();
            tx.send(i).unwrap();
            drop(permit);
        }));
        while limit.observe().waiting != i + 1 {
            tokio::task::yield_now().await;
        }
    }
    drop(first);
    for i in 0..5 {
        assert_eq!(order.recv().await, Some(i));
    }
    for t in tasks {
        t.await.unwrap();
    }
    assert_eq!(limit.observe().held, 0);
}

#[tokio::test(start_paused = true)]
async fn the_queue_and_the_wait_are_bounded() {
    let limit = Arc::new(InFlight::new(1, 1));
    let held = limit.acquire(None, LONG).await.unwrap();
    let l = limit.clone();
    let waiter = tokio::spawn(async move { l.acquire(None, Duration::from_millis(500)).await.map(drop) });
    while limit.observe().waiting != 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(limit.acquire(None, LONG).await.map(drop), Err(Busy::QueueFull));
    assert_eq!(waiter.await.unwrap(), Err(Busy::TooSlow));
    let seen = limit.observe();
    assert!(seen.bound && seen.refused == 2, "one found the queue full, one waited in vain: {seen:?}");
    drop(held);
    assert_eq!((limit.observe().held, limit.observe().refused), (0, 0));
    assert!(!limit.observe().bound);
}

#[tokio::test]
async fn who_leaves_while_waiting_costs_nobody_a_turn() {
    let limit = Arc::new(InFlight::new(1, 2));
    let held = limit.acquire(None, LONG).await.unwrap();
    let l = limit.clone();
    let leaver = tokio::spawn(async move { l.acquire(None, LONG).await.map(drop) });
    while limit.observe().waiting != 1 {
        tokio::task::yield_now().await;
    }
    let l = limit.clone();
    let stayer = tokio::spawn(async move { l.acquire(None, LONG).await });
    while limit.observe().waiting != 2 {
        tokio::task::yield_now().await;
    }
    leaver.abort();
    assert!(leaver.await.is_err());
    drop(held);
    let permit = stayer.await.unwrap().unwrap();
    assert_eq!(limit.observe().held, 1);
    drop(permit);
    assert_eq!(limit.observe(), Observed { limit: 1, peak: 1, bound: false, held: 0, waiting: 0, refused: 0 });
}

#[tokio::test]
async fn a_permit_sent_to_somebody_who_left_goes_on() {
    let limit = InFlight::new(1, 2);
    let held = limit.acquire(None, LONG).await.unwrap();
    let mut waiter = Box::pin(limit.acquire(None, LONG));
    assert!(futures_poll(&mut waiter).is_none());
    drop(held);
    // The permit lies in the channel; the waiter goes away without looking.
    drop(waiter);
    assert_eq!(limit.observe().held, 0);
    assert!(limit.acquire(None, LONG).await.is_ok());
}

#[tokio::test]
async fn a_higher_limit_lets_waiters_in_and_a_lower_one_takes_nothing_back() {
    let limit = Arc::new(InFlight::new(1, 4));
    let a = limit.acquire(None, LONG).await.unwrap();
    let l = limit.clone();
    let b = tokio::spawn(async move { l.acquire(None, LONG).await.unwrap() });
    while limit.observe().waiting != 1 {
        tokio::task::yield_now().await;
    }
    limit.set_limit(2);
    let b = b.await.unwrap();
    limit.set_limit(1);
    assert_eq!(limit.observe().held, 2);
    drop(a);
    assert!(futures_poll(&mut Box::pin(limit.acquire(None, LONG))).is_none(), "still one too many");
    drop(b);
    assert!(limit.acquire(None, LONG).await.is_ok());
}

#[tokio::test]
async fn nobody_has_more_than_a_share_and_others_pass_who_waits_for_himself() {
    let limit = InFlight::new(8, 20);
    let mut mine = vec![];
    for _ in 0..4 {
        mine.push(limit.acquire(Some(7), LONG).await.unwrap());
    }
    let mut fifth = Box::pin(limit.acquire(Some(7), LONG));
    assert!(futures_poll(&mut fifth).is_none(), "half of eight is four");
    let others: Vec<_> = [Some(8), None, None].map(|o| futures_poll(&mut Box::pin(limit.acquire(o, LONG)))).into();
    assert!(others.iter().all(Option::is_some), "there is room, and they may");
    mine.pop();
    let fifth = futures_poll(&mut fifth);
    assert!(fifth.is_some());
    assert_eq!(limit.observe().held, 7, "three of four, the fifth, three others");
}

#[tokio::test(start_paused = true)]
async fn the_line_is_nobodys_own() {
    let limit = InFlight::new(1, 20);
    let _held = limit.acquire(None, LONG).await.unwrap();
    let mut waiting: Vec<_> = (0..OWNER_MAX).map(|_| Box::pin(limit.acquire(Some(7), LONG))).collect();
    assert!(waiting.iter_mut().all(|w| futures_poll(w).is_none()));
    assert_eq!(limit.acquire(Some(7), LONG).await.map(drop), Err(Busy::OwnQueueFull));
    assert!(futures_poll(&mut Box::pin(limit.acquire(Some(8), LONG))).is_none(), "others may wait");
}

#[tokio::test]
async fn who_waits_for_slow_clients_is_not_held_by_the_shop() {
    let limit = InFlight::new(4, 20);
    let mut held = vec![];
    for _ in 0..4 {
        held.push(limit.acquire(None, LONG).await.unwrap());
    }
    held.iter_mut().for_each(|p| p.waits_for_client(true));
    limit.observe();
    assert!(futures_poll(&mut Box::pin(limit.acquire(None, LONG))).is_none());
    let seen = limit.observe();
    assert_eq!((seen.held, seen.peak, seen.bound), (4, 0, false));
    held.iter_mut().for_each(|p| p.waits_for_client(false));
    assert!(futures_poll(&mut Box::pin(limit.acquire(None, LONG))).is_none());
    let seen = limit.observe();
    assert_eq!((seen.peak, seen.bound), (4, true));
}

#[tokio::test]
async fn streams_and_slow_readers_keep_nobody_out() {
    let limit = InFlight::new(4, 20);
    let mut held = vec![];
    for _ in 0..4 {
        held.push(limit.acquire(None, LONG).await.unwrap());
    }
    held.iter_mut().for_each(|p| p.delivers(5_000));
    limit.tick(5_900);
    let mut waiter = Box::pin(limit.acquire(None, LONG));
    assert!(futures_poll(&mut waiter).is_none(), "an answer that has just begun may still be work");
    limit.tick(6_000);
    let passed = futures_poll(&mut waiter).unwrap().unwrap();
    assert_eq!(limit.observe().held, 5);
    drop((passed, waiter));
    held.pop();
    let more: Vec<_> = (0..4).map(|_| futures_poll(&mut Box::pin(limit.acquire(None, LONG)))).collect();
    assert!(more.iter().all(Option::is_some));
    assert!(futures_poll(&mut Box::pin(limit.acquire(None, LONG))).is_none(), "four that work, three that stream");
    // And they are not without number.
    let many = InFlight::new(1, 1);
    let mut streams = vec![];
    for n in 0..=LONG_MAX {
        streams.push(futures_poll(&mut Box::pin(many.acquire(None, LONG))).unwrap().unwrap());
        streams.last_mut().unwrap().delivers(0);
        many.tick(u64::from(n) + 1_000);
    }
    assert!(futures_poll(&mut Box::pin(many.acquire(None, LONG))).is_none());
    drop(streams);
    assert!(futures_poll(&mut Box::pin(many.acquire(None, LONG))).is_some());
}

fn futures_poll<F: Future + Unpin>(f: &mut F) -> Option<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(f).poll(&mut cx) {
        std::task::Poll::Ready(v) => Some(v),
        std::task::Poll::Pending => None,
    }
}
