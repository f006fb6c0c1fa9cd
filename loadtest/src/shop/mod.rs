//! A shop like many that are in use: a database, a small pool of connections, a payment provider to wait for, and a
//! checkout that reads the stock, thinks, and writes it back. It stands in for the shop behind the gate and knows nothing
//! of it.

mod meter;
mod pages;
mod pool;
mod store;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

use axum::serve::ListenerExt as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tidegate_filters::units::Span;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

pub use meter::Reading;
pub use store::Stats;

use self::{
    meter::Meter,
    pool::{Busy, Pool},
    store::Store,
};

/// The one product of the sale: `/product/42`.
pub const PRODUCT: u32 = 42;
/// Products that exist: `/product/1` to `/product/60`.
pub const PRODUCTS: u32 = 60;

/// How the shop behaves. The same flags always make the same shop.
#[derive(Clone, Debug, clap::Args)]
pub struct ShopSettings {
    /// Database connections; every page and every checkout needs one.
    #[arg(long, default_value_t = 4)]
    pub pool: u32,
    /// How long a page holds its connection, waiting for rows, locks and remote services.
    #[arg(long, default_value_t = 15)]
    pub work_ms: u64,
    /// How long a checkout holds its connection, most of it waiting for the payment provider.
    #[arg(long, default_value_t = 30)]
    pub checkout_ms: u64,
    /// How long a request waits for a connection before it fails with status 500.
    #[arg(long, default_value = "3s")]
    pub pool_wait: Span,
    /// Requests that may wait for a connection; more fail with status 503 at once.
    #[arg(long, default_value_t = 250)]
    pub waiting_max: u32,
    /// Lock convoy: every waiting request makes the work of the others longer by this share.
    #[arg(long, default_value_t = 0.02)]
    pub thrash: f64,
    /// Units of the product on sale.
    #[arg(long, default_value_t = 500)]
    pub stock: u32,
    /// Seed of the jitter of the work (±30 %) and of the order numbers.
    #[arg(long, default_value_t = 1)]
    pub jitter_seed: u64,
    /// Where the database lies; a temporary directory when left out.
    #[arg(long)]
    pub data: Option<PathBuf>,
}

impl Default for ShopSettings {
    fn default() -> Self {
        ShopSettings {
            pool: 4,
            work_ms: 15,
            checkout_ms: 30,
            pool_wait: Span::secs(3),
            waiting_max: 250,
            thrash: 0.02,
            stock: 500,
            jitter_seed: 1,
            data: None,
        }
    }
}

impl ShopSettings {
    /// The settings as command line flags: a child process gets exactly the same shop.
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![
            format!("--pool={}", self.pool),
            format!("--work-ms={}", self.work_ms),
            format!("--checkout-ms={}", self.checkout_ms),
            format!("--pool-wait={}", self.pool_wait),
            format!("--waiting-max={}", self.waiting_max),
            format!("--thrash={}", self.thrash),
            format!("--stock={}", self.stock),
            format!("--jitter-seed={}", self.jitter_seed),
        ];
        args.extend(self.data.iter().map(|d| format!("--data={}", d.display())));
        args
    }
}

/// Why the shop does not start.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// The database could not be made.
    #[error("the shop's database in {directory}: {source}; give a writable directory with --data")]
    Database {
        /// Where.
        directory: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A file or socket could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A flag that makes no shop.
    #[error("--{flag} must be at least 1")]
    Zero {
        /// The flag.
        flag: &'static str,
    },
}

/// A running shop.
#[derive(Debug)]
pub struct Shop {
    address: SocketAddr,
    inner: Arc<Inner>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// What the handlers share.
#[derive(Debug)]
struct Inner {
    settings: ShopSettings,
    pool: Arc<Pool>,
    meter: Arc<Meter>,
    store: Store,
    jitter: std::sync::Mutex<ChaCha8Rng>,
    /// Requests whose client left before the answer; their work was done all the same.
    left: AtomicU64,
    requests: AtomicU64,
    /// Keeps a temporary database until the shop stops.
    _directory: Option<TemporaryDirectory>,
}

impl Shop {
    /// Opens the database afresh and serves on `listen` until it is stopped or dropped.
    pub async fn start(settings: ShopSettings, listen: SocketAddr) -> Result<Shop, ShopError> {
        for (flag, value) in [("pool", settings.pool), ("stock", settings.stock)] {
            if value == 0 {
                return Err(ShopError::Zero { flag });
            }
        }
        let temporary = match &settings.data {
            Some(_) => None,
            None => Some(TemporaryDirectory::new()?),
        };
        let directory = match (&settings.data, &temporary) {
            (Some(d), _) => d.clone(),
            (None, Some(t)) => t.0.clone(),
            (None, None) => std::env::temp_dir(),
        };
        let io = |what: String| move |source| ShopError::Io { what, source };
        std::fs::create_dir_all(&directory).map_err(io(format!("making {}", directory.display())))?;
        let at = |source| ShopError::Database { directory: directory.clone(), source };
        let store = Store::create(&directory, settings.stock).map_err(at)?;
        let pool = Pool::open(&store, &settings).map_err(at)?;
        let listener = TcpListener::bind(listen).await.map_err(io(format!("listening on {listen}")))?;
        let address = listener.local_addr().map_err(io(format!("listening on {listen}")))?;
        let inner = Arc::new(Inner {
            jitter: std::sync::Mutex::new(ChaCha8Rng::seed_from_u64(settings.jitter_seed)),
            pool: Arc::new(pool),
            meter: Arc::new(Meter::new(settings.pool)),
            store,
            left: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            _directory: temporary,
            settings,
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let app = pages::router(inner.clone());
        // Legacy servers set it too; without it small answers wait for a delayed ACK.
        let listener = listener.tap_io(|s| drop(s.set_nodelay(true)));
        let task = tokio::spawn(async move {
            tokio::select! {
                _ = axum::serve(listener, app) => {}
                _ = stopped => {}
            }
        });
        Ok(Shop { address, inner, stop: Some(stop), task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was sold to whom, straight from the database.
    pub fn stats(&self) -> Result<Stats, rusqlite::Error> {
        self.inner.stats()
    }

    /// Stops serving. Requests under way are cut off, as when a process is killed.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        drop(self.task.await);
    }
}

impl Inner {
    fn stats(&self) -> Result<Stats, rusqlite::Error> {
        use std::sync::atomic::Ordering::Relaxed;
        let mut stats = self.store.stats()?;
        stats.requests = self.requests.load(Relaxed);
        stats.left = self.left.load(Relaxed);
        stats.turned_away = self.pool.turned_away();
        stats.timed_out = self.pool.timed_out();
        stats.waiting_peak = self.pool.waiting_peak();
        Ok(stats)
    }

    /// A factor in `[0.7, 1.3)`: no two payments take the same time.
    fn jitter(&self) -> f64 {
        self.jitter.lock().unwrap_or_else(std::sync::PoisonError::into_inner).random_range(0.7..1.3)
    }
}

/// Removed with everything in it when the shop goes.
#[derive(Debug)]
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn new() -> Result<Self, ShopError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-shop-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|source| ShopError::Io { what: format!("making {}", path.display()), source })?;
        Ok(TemporaryDirectory(path))
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
