//! The shop's SQL. The checkout is the classic lost update: the stock is read in one statement, and what it was minus one
//! is written by another, later.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{PRODUCT, PRODUCTS};

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL, stock INTEGER NOT NULL);
    CREATE TABLE cart (buyer TEXT PRIMARY KEY, product INTEGER NOT NULL REFERENCES product(id), put_at INTEGER NOT NULL);
    CREATE TABLE purchase (id INTEGER PRIMARY KEY, number TEXT NOT NULL UNIQUE, buyer TEXT NOT NULL,
                           product INTEGER NOT NULL REFERENCES product(id), bought_at INTEGER NOT NULL);";
/// Two writers never wait longer than this for each other.
const BUSY: Duration = Duration::from_secs(2);

/// What was sold to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Units there were.
    pub stock: u32,
    /// Units the shop thinks are left.
    pub stock_left: i64,
    /// Orders confirmed to buyers, one unit each.
    pub orders: u32,
    /// Orders confirmed for units that do not exist.
    pub oversold: u32,
    /// Orders by kind of buyer: the part of the buyer's name before the first `-`.
    pub by_kind: BTreeMap<String, u32>,
    /// The same for the orders that can be delivered: the first `stock` of them.
    pub delivered_by_kind: BTreeMap<String, u32>,
    /// Requests the shop received, without static files.
    pub requests: u64,
    /// Requests whose client left before the answer; their work was done all the same.
    pub left: u64,
    /// Requests turned away at once because too many waited.
    pub turned_away: u64,
    /// Requests that waited in vain for a connection.
    pub timed_out: u64,
    /// Most requests that waited at the same time.
    pub waiting_peak: u32,
}

/// Where the database is.
#[derive(Debug)]
pub(super) struct Store {
    file: PathBuf,
    stock: u32,
}

/// What a checkout ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checkout {
    Ordered(String),
    SoldOut,
}

impl Store {
    /// Makes the database afresh.
    pub(super) fn create(directory: &Path, stock: u32) -> rusqlite::Result<Self> {
        let file = directory.join("shop.sqlite");
        for suffix in ["", "-wal", "-shm"] {
            drop(std::fs::remove_file(directory.join(format!("shop.sqlite{suffix}"))));
        }
        let store = Store { file, stock };
        let mut db = store.connect()?;
        db.execute_batch(SCHEMA)?;
        let rows = db.transaction()?;
        for id in 1..=PRODUCTS {
            let stock = if id == PRODUCT { stock } else { 1_000_000 };
            let price = 1_900 + i64::from(id) * 100;
            rows.execute(
                "INSERT INTO product (id, name, price_cents, stock) VALUES (?1, ?2, ?3, ?4)",
                params![id, format!("Sneaker {id}"), price, stock],
            )?;
        }
        rows.commit()?;
        Ok(store)
    }

    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        let db = Connection::open(&self.file)?;
        db.busy_timeout(BUSY)?;
        db.execute_batch("PRAGMA synchronous = NORMAL;")?;
        Ok(db)
    }

    /// Over a connection of its own, so that looking never waits in the shop's queue.
    pub(super) fn stats(&self) -> rusqlite::Result<Stats> {
        let db = self.connect()?;
        let stock_left = db.query_row("SELECT stock FROM product WHERE id = ?1", [PRODUCT], |r| r.get(0))?;
        let orders: u32 = db.query_row("SELECT count(*) FROM purchase WHERE product = ?1", [PRODUCT], |r| r.get(0))?;
        let kinds = |limit: i64| -> rusqlite::Result<BTreeMap<String, u32>> {
            let mut query = db.prepare(
                "SELECT substr(buyer, 1, instr(buyer || '-', '-') - 1) AS kind, count(*)
                 FROM (SELECT buyer FROM purchase WHERE product = ?1 ORDER BY id LIMIT ?2) GROUP BY kind",
            )?;
            query.query_map(params![PRODUCT, limit], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
        };
        Ok(Stats {
            stock: self.stock,
            stock_left,
            orders,
            oversold: orders.saturating_sub(self.stock),
            by_kind: kinds(-1)?,
            delivered_by_kind: kinds(i64::from(self.stock))?,
            ..Stats::default()
        })
    }
}

/// Name, price and stock of a product.
pub(super) fn product(db: &Connection, id: u32) -> rusqlite::Result<Option<(String, i64, i64)>> {
    db.prepare_cached("SELECT name, price_cents, stock FROM product WHERE id = ?1")?
        .query_row([id], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()
}

/// The first products of the list.
pub(super) fn products(db: &Connection) -> rusqlite::Result<Vec<(u32, String)>> {
    db.prepare_cached("SELECT id, name FROM product ORDER BY abs(id - ?1) LIMIT 12")?
        .query_map([PRODUCT], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect()
}

pub(super) fn put_in_cart(db: &Connection, buyer: &str, product: u32, at_ms: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO cart (buyer, product, put_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (buyer) DO UPDATE SET product = excluded.product, put_at = excluded.put_at",
    )?
    .execute(params![buyer, product, at_ms])?;
    Ok(())
}

/// First half of a checkout.
pub(super) fn read_stock(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("SELECT stock FROM product WHERE id = ?1")?.query_row([PRODUCT], |r| r.get(0))
}

/// Second half of a checkout: writes what was read, minus one. Whoever sold in between is forgotten.
pub(super) fn write_order(db: &mut Connection, buyer: &str, number: &str, stock_read: i64, at_ms: i64) -> rusqlite::Result<()> {
    let order = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    order.prepare_cached("UPDATE product SET stock = ?1 WHERE id = ?2")?.execute(params![stock_read - 1, PRODUCT])?;
    order
        .prepare_cached("INSERT INTO purchase (number, buyer, product, bought_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![number, buyer, PRODUCT, at_ms])?;
    order.prepare_cached("DELETE FROM cart WHERE buyer = ?1")?.execute([buyer])?;
    order.commit()
}

pub(super) fn order(db: &Connection, number: &str) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("SELECT buyer FROM purchase WHERE number = ?1")?.query_row([number], |r| r.get(0)).optional()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn interleaved_checkouts_forget_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path(), 2).unwrap();
        let (mut a, mut b) = (store.connect().unwrap(), store.connect().unwrap());
        let (read_a, read_b) = (read_stock(&a).unwrap(), read_stock(&b).unwrap());
        write_order(&mut a, "person-1", "A1", read_a, 0).unwrap();
        write_order(&mut b, "plain_script-1", "A2", read_b, 0).unwrap();
        assert_eq!(read_stock(&a).unwrap(), 1, "two sold, one counted");
        let read = read_stock(&a).unwrap();
        write_order(&mut a, "person-2", "A3", read, 0).unwrap();
        let stats = store.stats().unwrap();
        assert_eq!((stats.orders, stats.oversold, stats.stock_left), (3, 1, 0));
        assert_eq!(stats.by_kind["person"], 2);
        assert_eq!(stats.delivered_by_kind.values().sum::<u32>(), 2, "the third cannot be delivered");
    }

    #[test]
    fn one_after_the_other_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path(), 3).unwrap();
        let mut db = store.connect().unwrap();
        for n in 0..3 {
            let read = read_stock(&db).unwrap();
            write_order(&mut db, "person-1", &format!("N{n}"), read, 0).unwrap();
        }
        assert_eq!((store.stats().unwrap().oversold, read_stock(&db).unwrap()), (0, 0));
        assert!(write_order(&mut db, "person-1", "N1", 0, 0).is_err(), "order numbers are unique");
    }
}
