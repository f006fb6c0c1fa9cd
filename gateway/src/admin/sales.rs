//! Stock: what is where, sales of other channels, restock, and what became of a unit nobody knew about.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use tidegate_filters::seats::{
    ledger::{Hold, HoldId, Holder, UNITS_MAX, Unit, Units},
    stock::Stock,
};

use super::{
    App,
    api::{Answer, Fault, json},
};
use crate::store::StoreError;

/// Uncertain holds that are listed; the numbers count all.
const LISTED_MAX: usize = 200;
const SOLD: &str = r#"send {"units": 1} before another channel sells: 409 says that it must not; or {"units": 1, "already": true} after it sold"#;
const RESTOCK: &str = r#"send {"units": 50} for more units, {"units": -5} to take free ones away"#;
const RESOLVE: &str = r#"send {"sold": 1} when the shop has the order, {"sold": 0} when it has none"#;

/// A sale and its units.
#[derive(Serialize)]
pub(super) struct Sale {
    name: String,
    room: String,
    /// Units by state.
    units: Units,
    /// Requests that ended without an answer, oldest first: look for the order in the shop, then tell the gate.
    uncertain: Vec<Doubt>,
}

#[derive(Serialize)]
struct Doubt {
    hold: u64,
    units: u32,
    unit: Unit,
    /// Keyed hash of the visitor, as in the journal.
    visitor: Option<String>,
    /// Seat of the pass, as in the journal.
    seat: Option<u32>,
    generation: Option<u32>,
}

impl Sale {
    fn new(name: &str, room: &str, stock: &Stock) -> Self {
        let (units, uncertain) =
            stock.with(|l| (l.units(), l.uncertain().take(LISTED_MAX).map(|(id, h)| Doubt::new(id, h)).collect()));
        Sale { name: name.to_owned(), room: room.to_owned(), units, uncertain }
    }
}

impl Doubt {
    fn new(id: HoldId, hold: &Hold) -> Self {
        let seat = match hold.buyer.holder {
            Holder::Seat(bits) => Some(tidegate_filters::seats::seat::SeatRef::from_bits(bits)),
            Holder::Visitor(_) => None,
        };
        Doubt {
            hold: id.0,
            units: hold.units,
            unit: hold.unit,
            visitor: hold.buyer.visitor.map(|v| format!("{:016x}", v.0)),
            seat: seat.map(|s| s.index),
            generation: seat.map(|s| s.generation),
        }
    }
}

pub(super) async fn list(State(app): State<App>) -> Json<Vec<Sale>> {
    let active = app.control.shared.active.load_full();
    let rooms = active.pipeline.rooms().iter();
    let sales = rooms.flat_map(|room| {
        room.sales().filter_map(|s| Some(Sale::new(&s.name, room.name(), room.stock(&s.name)?))).collect::<Vec<_>>()
    });
    Json(sales.collect())
}

pub(super) async fn one(State(app): State<App>, Path(sale): Path<String>) -> Answer<Json<Sale>> {
    with(&app, &sale, |_| Ok(())).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sold {
    units: u32,
    #[serde(default)]
    already: bool,
}

pub(super) async fn sold(State(app): State<App>, Path(sale): Path<String>, body: Body) -> Answer<Json<Sale>> {
    let Sold { units, already } = json(body, SOLD).await?;
    if units == 0 || u64::from(units) > UNITS_MAX {
        return Err(Fault::new(StatusCode::BAD_REQUEST, "UNITS", "that is no number of units that can be sold", SOLD));
    }
    with(&app, &sale, |stock| {
        match already {
            true => stock.with(|l| l.elsewhere(units.into())),
            false => stock.with(|l| l.ask(units.into())).map_err(|free| not_free(units.into(), free))?,
        }
        tracing::info!(sale, units, already, "sold elsewhere");
        Ok(())
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restock {
    units: i64,
}

pub(super) async fn restock(State(app): State<App>, Path(sale): Path<String>, body: Body) -> Answer<Json<Sale>> {
    let Restock { units } = json(body, RESTOCK).await?;
    with(&app, &sale, |stock| {
        let now = stock.with(|l| l.units().stock).unwrap_or(0);
        if units == 0 || now.checked_add_signed(units).is_some_and(|sum| sum > UNITS_MAX) || units.unsigned_abs() > UNITS_MAX {
            let what = match units {
                0 => "0 units more change nothing".to_owned(),
                _ => format!("{units} more than {now} is no stock: it is at most {UNITS_MAX}"),
            };
            return Err(Fault::new(StatusCode::BAD_REQUEST, "UNITS", &what, RESTOCK));
        }
        tracing::info!(sale, units, "restock");
        stock.with(|l| l.restock(units)).map_err(|free| match free {
            u64::MAX => {
                let what = "this sale has no stock to count";
                Fault::new(StatusCode::CONFLICT, "NOT_LIMITED", what, "write `stock` in the sale of the policy")
            }
            free => not_free(units.unsigned_abs(), free),
        })
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolved {
    sold: u32,
}

pub(super) async fn resolve(
    State(app): State<App>,
    Path((sale, hold)): Path<(String, String)>,
    body: Body,
) -> Answer<Json<Sale>> {
    let no_number = || Fault::new(StatusCode::NOT_FOUND, "NO_HOLD", &format!("`{hold}` is no number of a hold"), RESOLVE);
    let hold: u64 = hold.parse().map_err(|_| no_number())?;
    let Resolved { sold } = json(body, RESOLVE).await?;
    with(&app, &sale, |stock| {
        let known = stock.with(|l| {
            let units = l.uncertain().find(|(id, _)| id.0 == hold).map(|(_, h)| h.units);
            match units.filter(|units| sold > *units) {
                Some(units) => Err(units),
                None => Ok(l.resolve(HoldId(hold), (sold > 0).then_some(sold))),
            }
        });
        if let Err(units) = known {
            let what = format!("hold {hold} is of {units} units, and {sold} cannot have been sold by it");
            let instead = "send as many as its order has, and POST …/sold {\"units\": 1, \"already\": true} for others";
            return Err(Fault::new(StatusCode::CONFLICT, "TOO_MANY", &what, instead));
        }
        let known = known == Ok(true);
        if known {
            tracing::info!(sale, hold, sold, "somebody knows what became of a unit");
        }
        let what = format!("sale `{sale}` has no open hold {hold}: it was sold or given back");
        known.then_some(()).ok_or_else(|| {
            Fault::new(StatusCode::NOT_FOUND, "NO_HOLD", &what, "GET /v1/sales/NAME lists those nobody knows about")
        })
    })
    .await
}

fn not_free(asked: u64, free: u64) -> Fault {
    let what = format!("{asked} units were asked for and {free} are free; the others are sold, held or at the shop");
    Fault::new(StatusCode::CONFLICT, "NOT_FREE", &what, "ask for fewer, or wait until holds come back")
}

async fn with(app: &App, sale: &str, act: impl FnOnce(&Arc<Stock>) -> Answer<()>) -> Answer<Json<Sale>> {
    let active = app.control.shared.active.load_full();
    let rooms = active.pipeline.rooms();
    let Some((room, stock)) = rooms.iter().find_map(|r| Some((r, r.stock(sale)?))) else {
        let known: Vec<&str> = rooms.iter().flat_map(|r| r.sales().map(|s| &*s.name)).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let name: String = sale.chars().take(64).collect();
        let what = format!("there is no sale `{name}`; sales of this policy: {known}");
        return Err(Fault::new(StatusCode::NOT_FOUND, "NO_SALE", &what, "GET /v1/sales lists the sales"));
    };
    act(stock)?;
    if let Some(written) = app.control.shared.holds.write(sale, stock, true) {
        let instead = "it counts in memory; ask GET /v1/sales/NAME, mend the disk below `state`, and do not send it again";
        let fault = |e: StoreError| Fault::new(StatusCode::SERVICE_UNAVAILABLE, "NOT_KEPT", &e.to_string(), instead);
        written.durable().await.map_err(fault)?;
    }
    Ok(Json(Sale::new(sale, room.name(), stock)))
}
