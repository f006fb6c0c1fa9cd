//! How many connections there may be: in all and of one network. A permit comes back when its connection ends.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;
use tidegate_config::Connections;
use tidegate_filters::Network;
use tokio::sync::Notify;

use crate::counts::Turned;

/// Prefix of one IPv6 subscriber.
const IPV6_PREFIX: u8 = 64;
const SHARDS: usize = 16;

/// The counters. The table of networks holds only networks with open connections, so it never exceeds `max`.
#[derive(Debug)]
pub struct Caps {
    max: AtomicU32,
    per_network_max: AtomicU32,
    open: AtomicU32,
    networks: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
    hasher: std::hash::RandomState,
    ended: Notify,
}

/// One connection.
#[derive(Debug)]
pub struct ConnectionPermit {
    caps: Arc<Caps>,
    network: Option<IpAddr>,
}

impl Caps {
    /// As the policy says.
    pub fn new(settings: &Connections) -> Self {
        Caps {
            max: AtomicU32::new(settings.max),
            per_network_max: AtomicU32::new(settings.per_network_max),
            open: AtomicU32::new(0),
            networks: Default::default(),
            hasher: std::hash::RandomState::new(),
            ended: Notify::new(),
        }
    }

    /// New bounds; connections that are open stay.
    pub fn set(&self, settings: &Connections) {
        self.max.store(settings.max, Ordering::Relaxed);
        self.per_network_max.store(settings.per_network_max, Ordering::Relaxed);
    }

    /// Connections open now.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    /// A permit for one more connection.
    pub fn enter(self: &Arc<Self>) -> Result<ConnectionPermit, Turned> {
        let before = self.open.fetch_add(1, Ordering::AcqRel);
        let permit = ConnectionPermit { caps: self.clone(), network: None };
        if before >= self.max.load(Ordering::Relaxed) { Err(Turned::Full) } else { Ok(permit) }
    }

    /// Waits until no connection is open.
    pub async fn idle(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.open() == 0 {
                return;
            }
            ended.await;
        }
    }

    fn shard(&self, network: IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        &self.networks[self.hasher.hash_one(network) as usize % SHARDS]
    }
}

impl ConnectionPermit {
    /// Counts the connection to a network, once its client is known.
    pub fn belongs_to(&mut self, network: Network) -> Result<(), Turned> {
        let key = network.key(IPV6_PREFIX);
        let mut shard = self.caps.shard(key).lock();
        let open = shard.entry(key).or_default();
        if *open >= self.caps.per_network_max.load(Ordering::Relaxed) {
            return Err(Turned::NetworkFull);
        }
        *open += 1;
        drop(shard);
        self.network = Some(key);
        Ok(())
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(network) = self.network {
            let mut shard = self.caps.shard(network).lock();
            if let Some(open) = shard.get_mut(&network) {
                *open -= 1;
                if *open == 0 {
                    shard.remove(&network);
                }
            }
        }
        if self.caps.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.caps.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn caps(max: u32, per_network_max: u32) -> Arc<Caps> {
        Arc::new(Caps::new(&Connections { max, per_network_max, ..Connections::default() }))
    }

    fn net(s: &str) -> Network {
        Network::new(s.parse().unwrap())
    }

    #[test]
    fn permits_come_back() {
        let caps = caps(2, 10);
        let (a, b) = (caps.enter().unwrap(), caps.enter().unwrap());
        assert_eq!(caps.enter().err(), Some(Turned::Full));
        drop(a);
        let c = caps.enter().unwrap();
        drop((b, c));
        assert_eq!(caps.open(), 0);
    }

    #[test]
    fn one_subscriber_cannot_take_all() {
        let caps = caps(100, 2);
        let enter = |s: &str| {
            let mut p = caps.enter().unwrap();
            p.belongs_to(net(s)).map(|()| p)
        };
        let held = [enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap()];
        assert_eq!(enter("2001:db8::3").err(), Some(Turned::NetworkFull));
        assert!(enter("2001:db8:0:1::1").is_ok(), "another /64");
        drop(held);
        assert!(enter("2001:db8::3").is_ok());
        assert_eq!(caps.open(), 0);
        assert!(caps.networks.iter().all(|s| s.lock().is_empty()), "nothing is left behind");
    }

    #[tokio::test]
    async fn idle_is_noticed() {
        let caps = caps(2, 2);
        let a = caps.enter().unwrap();
        let waiting = caps.clone();
        let task = tokio::spawn(async move { waiting.idle().await });
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        drop(a);
        task.await.unwrap();
    }
}
