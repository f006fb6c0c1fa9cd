//! What lies below `draw` and `receipt`: the promise, the frozen list, the revealed files, proofs.

use std::path::Path;

use bytes::Bytes;
use http::header;
use pingora::{http::ResponseHeader, proxy::Session};
use serde_json::{Value, json};
use tidegate_filters::{
    Reason, Wants,
    seats::{
        draw::{
            beacon::is_public,
            digest::hex,
            entry::Leaves,
            live::{SaleDraw, Window},
            statement::{RECEIPT_LABEL, Receipt},
            transcript::FrozenList,
            verify::Inclusion,
        },
        room::Room,
    },
};
use tokio::io::AsyncReadExt as _;

use crate::{
    form::{fields, get},
    own,
    pages::{self, Checked, NotProven},
    reply::{self, Answer},
    standing,
    state::Shared,
    trace::Trace,
};

/// While something can still change.
const FRESH: &str = "public, max-age=2";
/// A list that is revealed.
const FOR_EVER: &str = "public, max-age=86400, immutable";
/// Bytes of a file sent at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Answers `draw`, `draw/transcript.json`, `draw/entries.csv`, `draw/proof` and `receipt`. `form`: what was posted.
pub async fn answer(
    shared: &Shared,
    session: &mut Session,
    trace: &mut Trace,
    path: &str,
    form: &[(String, String)],
) -> pingora::Result<()> {
    let query = fields(trace.intake.query.as_deref().unwrap_or_default());
    let active = trace.active.clone();
    let found = find(shared, active.pipeline.rooms(), &query);
    let Some((room, draw, number)) = found else {
        let none =
            Answer::problem(404, "own", Reason::Own.code(), "no sale of this gate has such a draw; name one with ?sale=NAME");
        return reply::send(session, trace, reply::for_browsers(trace, none)).await;
    };
    let answer = match path {
        "receipt" => receipt(shared, trace),
        "draw" => whole(shared, trace, room, draw, number, None),
        "draw/proof" => {
            let pasted = get(form, "receipt").unwrap_or_default();
            let proof = prove(draw, pasted);
            whole(shared, trace, room, draw, number, Some(&proof))
        }
        _ => {
            let Some(revealed) = shared.draws.revealed(draw.sale_id(), number) else {
                let later = Answer::problem(404, "own", Reason::Own.code(), "places are not drawn yet; GET draw says when");
                let later = later.with("cache-control", FRESH).with("vary", "Accept, Accept-Language");
                return reply::send(session, trace, reply::for_browsers(trace, later)).await;
            };
            return match path {
                // An amendment may still come: a sale that is drawn can be called off.
                "draw/transcript.json" => file(session, &revealed.file, "application/json", "public, max-age=60").await,
                _ => file(session, &revealed.entries, "text/csv; charset=utf-8", FOR_EVER).await,
            };
        }
    };
    reply::send(session, trace, reply::for_browsers(trace, answer)).await
}

/// The room, draw and window a query names: the sale that is on, and its latest window, when it names none.
fn find<'a>(shared: &Shared, rooms: &'a [Room], query: &[(String, String)]) -> Option<(&'a Room, &'a SaleDraw, u64)> {
    let now = shared.clock.now();
    let named = get(query, "sale");
    let of = |room: &'a Room| {
        let draw = match named {
            Some(name) => room.draws().find(|d| d.sale_id() == name).map(|d| &**d),
            None => room.current_draw(now).or_else(|| room.draws().next().map(|d| &**d)),
        };
        draw.map(|d| (room, d))
    };
    let (room, draw) = rooms.iter().find_map(of)?;
    let latest = || {
        let open = draw.open_window(now).map(|(n, _)| u64::from(n));
        open.or_else(|| (0..draw.window_count()).rev().find(|n| draw.window(*n).is_some())).unwrap_or(0)
    };
    let number = get(query, "window").and_then(|w| w.parse().ok()).unwrap_or_else(latest);
    (number < draw.window_count()).then_some((room, draw, number))
}

fn whole(shared: &Shared, trace: &Trace, room: &Room, draw: &SaleDraw, number: u64, proof: Option<&Checked>) -> Answer {
    let value = describe(shared, trace, room, draw, number);
    let drawn = value["state"] == "drawn";
    let html = trace.intake.wants == Wants::Html;
    let cache = if drawn { "public, max-age=60" } else { FRESH };
    let page = |checked| {
        let pages = trace.active.pages.room(trace.active.pipeline.room(room.name())?)?;
        pages::draw(pages, trace.intake.accept_language.as_str(), &value, checked)
    };
    match (proof, html) {
        (None, true) => match page(None) {
            // Caches keep one for each language.
            Some(page) => Answer::page(200, "own", Reason::Own.code(), page)
                .with("cache-control", cache)
                .with("vary", "Accept, Accept-Language"),
            None => Answer::json(200, "own", Reason::Own.code(), &value).with("cache-control", FRESH),
        },
        (None, false) => Answer::json(200, "own", Reason::Own.code(), &value).with("cache-control", cache).with("vary", "Accept"),
        (Some(checked), true) => match page(Some(checked)) {
            Some(page) => Answer::page(200, "own", Reason::Own.code(), page),
            None => own::problem(503, "the page cannot be shown; ask for JSON"),
        },
        (Some(Ok(p)), false) => {
            let mut proof = json!(p);
            proof["cancelled"] = value["cancelled"].clone();
            let list = list_number(&p.sale_id).and_then(|n| draw.window(n)).and_then(Window::frozen);
            proof["first_place"] = json!(list.map(|f| f.base));
            Answer::json(200, "own", Reason::Own.code(), &proof)
        }
        (Some(Err(why)), false) => Answer::problem(422, "own", Reason::Own.code(), why.in_english()),
    }
}

/// Everything public about a list.
fn describe(shared: &Shared, trace: &Trace, room: &Room, draw: &SaleDraw, number: u64) -> Value {
    let window = draw.window(number);
    let state = match window {
        _ if draw.pledged().is_none() => "unpromised",
        Some(w) if w.is_drawn() => "drawn",
        Some(w) if w.frozen().is_some() => "frozen",
        _ if draw.is_cancelled() => "cancelled",
        _ if draw.open_window(shared.clock.now()).is_some_and(|(n, _)| u64::from(n) == number) => "open",
        _ => "promised",
    };
    let (settings, taken) = (room.settings(), window.map_or(0, |w| w.register.taken()));
    let query = match draw.is_chained() {
        true => format!("?sale={}&window={number}", draw.sale_id()),
        false => format!("?sale={}", draw.sale_id()),
    };
    let url = |page: &str| format!("{}{query}", own::url(trace, page));
    let promise = draw.pledged().map(|p| {
        json!({
            "rules_json": p.rules_json, "rules": hex(&p.rules), "commitment": hex(&p.commitment),
            "public_key": hex(&p.public_key), "receipt_signature_label": RECEIPT_LABEL,
        })
    });
    let rules: Value = draw.pledged().and_then(|p| serde_json::from_str(&p.rules_json).ok()).unwrap_or_default();
    let frozen = window.and_then(Window::frozen).map(|f| {
        let mut frozen = json!(f.list);
        frozen["by_class"] = json!(f.census);
        frozen["places"] = json!(f.count);
        // Places of the list are counted from 0; in the line they begin here.
        frozen["first_place"] = json!(f.base);
        frozen
    });
    let drawn = state == "drawn";
    let quotas = ["per_network", "per_fingerprint"].iter().any(|q| rules["quotas"][*q].is_u64());
    let waits = window.and_then(Window::frozen).filter(|_| !drawn).map(|f| &f.list);
    json!({
        "sale_id": draw.sale_id(),
        "room": room.name(),
        "draw_id": draw.draw_id(number),
        "window": draw.is_chained().then_some(number),
        "state": state,
        "entries": taken,
        "full": taken >= settings.visitor.entries_max.unwrap_or(settings.entries_max),
        "freezes_at": draw.window_ends_ms(number) / 1_000,
        "late": waits.is_some_and(|l| l.is_late(shared.clock.now())),
        "round_due": waits.and_then(FrozenList::round_due_s),
        "identity": rules["identity"].as_str().map(str::to_owned).or_else(|| rules["identity"].as_object().map(|_| "shop_login".into())),
        // Whatever names a visitor, the visitor sends it: the gate proves none.
        "identity_proven": false,
        "quotas": quotas,
        "operator_could_have_chosen": draw.pledged().is_some() && !rules["beacon"]["source"].as_str().is_some_and(is_public),
        "promise": promise,
        "cancelled": draw.is_cancelled().then(|| standing::called_off(trace, room, draw.sale_id())),
        "redraws": rules["redraws"],
        "amendments": shared.draws.amendments(draw.sale_id()),
        "frozen": frozen,
        "transcript": drawn.then(|| url("draw/transcript.json")),
        "entries_file": drawn.then(|| url("draw/entries.csv")),
        "protocol_url": own::url(trace, "draw/protocol.md"),
        "proof_url": url("draw/proof"),
        "receipt_url": own::url(trace, "receipt"),
    })
}

/// The visitor's own receipt, by its ticket.
fn receipt(shared: &Shared, trace: &Trace) -> Answer {
    let now = shared.clock.now();
    let visit = trace.intake.visit(None);
    let mine = trace.active.pipeline.rooms().iter().find_map(|room| room.entry_for_receipt(&visit, now));
    let signed = mine.and_then(|(draw, window, index)| {
        let id = draw.draw_id(window.number());
        let commitment = draw.pledged()?.commitment;
        Some(Receipt::sign(&shared.draws.signer, &id, commitment, u64::from(index), window.entry_id(index)))
    });
    match signed {
        Some(receipt) => Answer::json(200, "own", Reason::Own.code(), &json!(receipt))
            .with("content-disposition", format!("attachment; filename=\"receipt-{}.json\"", receipt.index)),
        None => Answer::problem(404, "own", Reason::Own.code(), "this browser has no entry in a draw that is on"),
    }
}

/// Which list a receipt names: `SALE`, or `SALE#WINDOW`.
fn list_number(draw_id: &str) -> Option<u64> {
    draw_id.rsplit_once('#').map_or(Some(0), |(_, window)| window.parse().ok())
}

/// Proves a pasted receipt against the frozen list.
fn prove(draw: &SaleDraw, pasted: &str) -> Checked {
    let receipt: Receipt = serde_json::from_str(pasted.trim()).map_err(|_| NotProven::NoReceipt)?;
    let pledge = draw.pledged().ok_or(NotProven::NotSigned)?;
    if receipt.public_key != pledge.public_key || receipt.commitment != pledge.commitment || !receipt.is_signed() {
        return Err(NotProven::NotSigned);
    }
    let number = list_number(&receipt.sale_id).ok_or(NotProven::OtherSale)?;
    if receipt.sale_id != draw.draw_id(number) {
        return Err(NotProven::OtherSale);
    }
    let window = draw.window(number).ok_or(NotProven::NotFrozen)?;
    let frozen = window.frozen().ok_or(NotProven::NotFrozen)?;
    let index = u32::try_from(receipt.index).unwrap_or(u32::MAX);
    let entry = window.entry(index).filter(|e| e.id == receipt.entry_id).ok_or(NotProven::NotListed)?;
    let leaves = Leaves::new(&receipt.sale_id);
    let leaf_of = |i: usize| window.entry(i as u32).map_or([0; 32], |e| leaves.leaf(i as u64, &e));
    let path = frozen.tree.path(index as usize, leaf_of).unwrap_or_default();
    Ok(Inclusion {
        sale_id: receipt.sale_id,
        index: receipt.index,
        entry_id: hex(&entry.id),
        weight: entry.weight,
        place: window.drawn(index),
        n: frozen.list.n,
        root: hex(&frozen.list.root),
        leaf: hex(&leaves.leaf(receipt.index, &entry)),
        path: path.iter().map(|h| hex(h)).collect(),
    })
}

/// A revealed file, in pieces: a list of a million entries is 54 MB.
async fn file(session: &mut Session, path: &Path, content_type: &'static str, cache: &'static str) -> pingora::Result<()> {
    let opened = async {
        let file = tokio::fs::File::open(path).await?;
        let size = file.metadata().await?.len();
        Ok::<_, std::io::Error>((file, size))
    };
    let Ok((mut file, size)) = opened.await else {
        let mut head = ResponseHeader::build(503, Some(3))?;
        head.insert_header(header::CONTENT_LENGTH, 0)?;
        head.insert_header(header::RETRY_AFTER, 5)?;
        return session.write_response_header(Box::new(head), true).await;
    };
    let mut head = ResponseHeader::build(200, Some(6))?;
    head.insert_header(header::CONTENT_TYPE, content_type)?;
    head.insert_header(header::CONTENT_LENGTH, size)?;
    head.insert_header(header::CACHE_CONTROL, cache)?;
    head.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    let no_body = session.req_header().method == http::Method::HEAD || size == 0;
    session.write_response_header(Box::new(head), no_body).await?;
    let mut left = if no_body { 0 } else { size };
    while left > 0 {
        let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
        if file.read_exact(&mut piece).await.is_err() {
            session.set_keepalive(None);
            break;
        }
        left -= piece.len() as u64;
        session.write_response_body(Some(Bytes::from(piece)), left == 0).await?;
    }
    Ok(())
}
