//! The waiting page: where the visitor stands, as values for a template.

use minijinja::{Value, context};
use serde_json::json;
use tidegate_filters::seats::{
    draw::digest::hex,
    room::{Cause, Order, Stage, Waiting},
};

use super::{
    Page, RoomPage, SCRIPT, WORK, fields,
    language::{Language, Said, put},
    styled,
    template::{TemplateError, escape},
};
use crate::{
    own::{STYLE, url},
    reply::claimable,
    standing::{State, opens_in_s},
};

/// The place in the line. With JavaScript it updates itself without a reload; without, it reloads.
pub fn waiting(state: &State<'_>) -> Option<Page> {
    let w = state.waiting?;
    let page = state.trace.active.pages.room(w.room)?;
    let (language, t) = page.language(state.trace.intake.accept_language.as_str())?;
    let shown = Shown::of(state, w);
    match render(page, language, t, &shown) {
        Ok(page) => Some(page),
        Err(error) => {
            tracing::error!(room = state.room.name(), %error, "the template failed; the shipped one is shown");
            let page = super::SHIPPED.as_ref()?;
            let (language, t) = page.language(state.trace.intake.accept_language.as_str())?;
            render(page, language, t, &shown).ok()
        }
    }
}

/// The page, and what is in it whatever the template.
fn render(page: &RoomPage, language: &Language, t: &Value, shown: &Shown) -> Result<Page, TemplateError> {
    let mut page = page.render(language, values(language, t, shown))?;
    if shown.unrendered {
        page.policy = page.policy.replace("style-src", "style-src 'self'");
        let end = page.html.rfind("</body>").unwrap_or(page.html.len());
        page.html.insert_str(end, &named_style(language, shown));
    }
    Ok(page)
}

/// What a page shows, before it has words.
#[derive(Clone, Debug)]
struct Shown {
    state: &'static str,
    /// The room's own stage: what live pages compare with.
    room_stage: &'static str,
    room: String,
    prefix: String,
    to: String,
    place: Option<(u32, u8)>,
    /// Index of an entry that has no place yet.
    entry: Option<u32>,
    /// Its page names a style that a browser has yet to ask for.
    unrendered: bool,
    /// `open`, `frozen` or `drawn`, and how many are on the list, while a sale that is drawn is on.
    draw: Option<(&'static str, Option<u64>)>,
    work: Option<Asked>,
    /// The work is asked for since no login names the visitor.
    unnamed: bool,
    /// The first number of the drawn: people count from there.
    first_place: u32,
    ahead: u64,
    wait_s: Option<(u32, u32)>,
    stock_percent: Option<u8>,
    because: Option<Cause>,
    poll_after_s: u32,
    opens_in_s: Option<u32>,
    /// Seconds of the claim window, when called.
    claim_s: Option<u32>,
    /// The form would do something.
    called: bool,
    restarted: bool,
    /// Nothing is left; whether of some units nobody knows yet.
    sold_out: Option<bool>,
    message: Option<String>,
    rules: Rules,
    events: bool,
}

/// Work that is asked for above a quota.
#[derive(Clone, Debug)]
struct Asked {
    challenge: String,
    bits: u8,
    /// Seconds until the list closes.
    left_s: u64,
}

/// The sale's rules, as numbers.
#[derive(Clone, Debug, Default)]
struct Rules {
    sale: Option<String>,
    order: Order,
    opens: Option<String>,
    closes: Option<String>,
    stock: Option<u64>,
    per_visitor_max: Option<u32>,
    claim_window_s: u32,
    reserve_s: u32,
}

impl Shown {
    fn of(state: &State<'_>, w: &Waiting) -> Shown {
        let (trace, room) = (state.trace, state.room);
        let policy = &trace.active.policy;
        let settings = room.settings();
        let sale = room.sale_now(trace.started).and_then(|s| policy.sales.iter().find(|p| *p.name == *s.name));
        let rules = Rules {
            sale: sale.map(|s| s.name.clone()),
            order: settings.order,
            opens: sale.map(|s| s.opens_at.for_people()),
            closes: sale.map(|s| s.closes_at.for_people()),
            stock: sale.and_then(|_| room.units_now(trace.started)),
            per_visitor_max: sale.and_then(|s| s.per_visitor_max),
            claim_window_s: settings.claim_window.secs_ceil() as u32,
            reserve_s: sale.map_or(0, |s| policy.reserve(s).secs_ceil() as u32),
        };
        Shown {
            state: state.name,
            room_stage: room.stage_name(trace.started),
            room: room.name().to_owned(),
            prefix: url(trace, ""),
            to: trace.intake.target(),
            place: w.place.map(|p| (p.number, p.lane as u8)),
            entry: w.undrawn().map(|e| e.entry.index),
            unrendered: w.undrawn().is_some_and(|e| room.wants_rendering(e.entry, trace.started)),
            draw: room.draw_frame(trace.started).map(|d| (d.state, d.n)),
            unnamed: w.unnamed,
            first_place: room.first_place(trace.started),
            work: state.work().map(|work| Asked {
                challenge: hex(&work.challenge),
                bits: work.bits,
                left_s: room.list_closes_in_s(trace.started).unwrap_or(0),
            }),
            ahead: w.ahead,
            wait_s: w.wait_s,
            stock_percent: w.stock_percent,
            because: w.because,
            poll_after_s: w.poll_after_s.max(1),
            opens_in_s: opens_in_s(w.stage),
            claim_s: claimable(w.stage),
            called: matches!(w.stage, Stage::Called { .. }),
            restarted: w.restarted,
            sold_out: match w.stage {
                Stage::SoldOut { undecided } => Some(undecided),
                _ => None,
            },
            message: room.current_message(),
            rules,
            events: policy.connections.streams_max > 0,
        }
    }

    /// Without JavaScript the page asks again by loading itself; not while somebody reads and presses a button.
    fn refresh_s(&self) -> Option<u32> {
        (!self.called).then_some(self.poll_after_s)
    }
}

/// What the page is about.
fn said(language: &Language, s: &Shown) -> Said {
    let words = &language.words;
    if let Some(undecided) = s.sold_out {
        let w = &words.sold_out;
        let what = if undecided { &w.undecided } else { &w.all };
        let then = if s.place.is_some() { &w.kept } else { &w.newcomer };
        return Said { title: words.refusals.stock_gone.title.clone(), text: format!("{what} {then}") };
    }
    let stage = match s.state {
        _ if s.work.is_some() && s.unnamed => &words.draw.unnamed,
        _ if s.work.is_some() => &words.draw.work,
        _ if s.entry.is_some() => match s.draw {
            Some(("open", _)) => &words.draw.entered,
            Some(("late", _)) => &words.draw.late,
            _ => &words.draw.frozen,
        },
        // Nobody has a place yet in a list that is open.
        "prequeue" if s.place.is_none() && s.draw.is_some_and(|(state, _)| state == "open") => &words.draw.knock,
        "prequeue" | "waiting" if s.draw.is_some_and(|(state, _)| state == "late") => &words.draw.late,
        "waiting" if s.draw.is_some_and(|(state, _)| state == "frozen") => &words.draw.frozen,
        "prequeue" => &words.stages.prequeue,
        "called" => &words.stages.called,
        "next" => &words.stages.next,
        "paused" => &words.stages.paused,
        "full" => &words.stages.full,
        _ => &words.stages.waiting,
    };
    let n = language.number(s.draw.and_then(|d| d.1).unwrap_or(0));
    Said { title: stage.title.clone(), text: put(&stage.text, "n", &n) }
}

fn values(language: &Language, t: &Value, s: &Shown) -> Value {
    let words = &language.words;
    let said = said(language, s);
    let page = |name: &str| format!("{}{name}", s.prefix);
    let draw = (s.rules.order != Order::Fifo).then(|| match &s.rules.sale {
        Some(sale) => page(&format!("draw?sale={sale}")),
        None => page("draw"),
    });
    let left_s = s.claim_s.unwrap_or(0);
    context! {
        t,
        lang => language.tag,
        dir => words.dir.name(),
        title => said.title,
        text => said.text,
        state => s.state,
        room => s.room,
        head => Value::from_safe_string(head(language, s)),
        style => styled(),
        script => Value::from_safe_string(match s.work {
            Some(_) => format!("<script>{}</script><script>{}</script>", *SCRIPT, *WORK),
            None => format!("<script>{}</script>", *SCRIPT),
        }),
        // As on its receipt and in the list, from 0: it is a name. A place is a rank, from 1.
        entry => s.entry.map(|index| format!("#{}", language.number(u64::from(index)))),
        ticket => s.state != "full" && (s.sold_out.is_none() || s.place.is_some()),
        place => s.place.map(|(number, _)| format!("#{}", language.number(u64::from(number.saturating_sub(s.first_place)) + 1))),
        ahead => language.number(s.ahead),
        wait => s.sold_out.is_none().then(|| language.interval(s.wait_s)),
        stock => s.stock_percent.map(|p| format!("{p}\u{a0}%")),
        opens_in => s.opens_in_s.map(|n| language.time(n)),
        because => s.because.filter(|_| !s.called).map(|c| language.cause(c)),
        claimable => s.called,
        extendable => left_s > 0,
        time_left => if left_s > 0 { put(&words.time_left, "time", &language.time(left_s)) } else { words.time_over.clone() },
        message => s.message,
        restarted => s.restarted,
        rules_title => if s.rules.sale.is_some() { &words.rules.title } else { &words.rules.room_title },
        rules => rules(language, &s.rules),
        fields => fields(&[("room", &s.room), ("to", &s.to)]),
        urls => context! { claim => page("claim"), extend => page("extend"), leave => page("leave"), receipt => page("receipt"), draw },
    }
}

/// The style that tells a browser from a program that only reads pages, last so that nothing waits for it. Who sees what it
/// hides has a browser without styles, and asks for it by hand.
fn named_style(language: &Language, s: &Shown) -> String {
    let url = format!("{}{STYLE}?room={}", s.prefix, s.room);
    let mut html = format!("<link rel=\"stylesheet\" href=\"{url}\"><p hidden><a href=\"{url}\">");
    let _ = escape(&mut html, &language.words.draw.unrendered);
    html.push_str("</a></p>");
    html
}

/// What the page's script reads, and the reload for browsers without scripts.
fn head(language: &Language, s: &Shown) -> String {
    let words = &language.words;
    let query = format!("?room={}", s.room);
    let because: serde_json::Map<_, _> =
        Cause::ALL.into_iter().map(|c| (c.name().to_owned(), language.cause(c).into())).collect();
    let mut settings = json!({
        "state": s.state, "stage": s.room_stage, "room": s.room, "place": s.place.map(|p| p.0), "lane": s.place.map(|p| p.1),
        "ahead": s.ahead, "wait": s.wait_s.map(|(low, high)| [low, high]), "poll": s.poll_after_s, "opens": s.opens_in_s,
        "left": s.claim_s.unwrap_or(0), "draw": s.draw.map(|d| d.0),
        "work": s.work.as_ref().map(|w| json!({
            "challenge": w.challenge, "bits": w.bits, "left": w.left_s, "url": format!("{}work", s.prefix),
        })),
        "status": format!("{}status{query}", s.prefix),
        "events": s.events.then(|| format!("{}events{query}", s.prefix)),
        "t": {
            "s": words.seconds, "m": words.minutes, "h": words.hours, "between": words.between, "unknown": words.unknown,
            "group": words.group, "rose": words.wait_rose, "because": because, "called": words.stages.called.title,
            "text": words.stages.called.text, "left": words.time_left, "over": words.time_over,
        },
    });
    // A page that works does not listen meanwhile.
    if let Some(sale) = s.rules.sale.as_ref().filter(|_| s.work.is_none()) {
        settings["sale"] = sale.as_str().into();
    }
    let mut html = String::from("<meta name=\"robots\" content=\"noindex\">\n<meta name=\"tidegate\" content=\"");
    let _ = escape(&mut html, &settings.to_string());
    html.push_str("\">");
    if let Some(seconds) = s.refresh_s() {
        html.push_str(&format!("\n<noscript><meta http-equiv=\"refresh\" content=\"{seconds}\"></noscript>"));
    }
    html
}

fn rules(language: &Language, rules: &Rules) -> Vec<String> {
    let words = &language.words.rules;
    let mut out = vec![
        match rules.order {
            Order::Fifo => words.order_fifo.clone(),
            Order::DrawThenFifo => words.order_draw.clone(),
            Order::DrawEvery(_) => words.order_windows.clone(),
        },
        words.never.clone(),
    ];
    out.extend(rules.opens.as_ref().map(|t| put(&words.opens, "time", t)));
    out.extend(rules.closes.as_ref().map(|t| put(&words.closes, "time", t)));
    out.extend(rules.stock.map(|n| put(&words.stock, "n", &language.number(n))));
    out.extend(rules.per_visitor_max.map(|n| put(&words.per_visitor, "n", &language.number(n.into()))));
    out.push(put(&words.claim, "time", &language.time(rules.claim_window_s)));
    out.extend((rules.reserve_s > 0).then(|| put(&words.reserve, "time", &language.time(rules.reserve_s))));
    out
}

/// Renders every stage in every language, so that a template that would fail in one of them fails when it is checked.
pub(super) fn try_all(page: &RoomPage) -> Result<(), TemplateError> {
    for (language, t) in page.languages.iter().zip(&page.words) {
        for shown in samples() {
            render(page, language, t, &shown)?;
        }
    }
    Ok(())
}

/// One of every stage, with the longest of everything.
fn samples() -> Vec<Shown> {
    let rules = Rules {
        sale: Some("s".repeat(64)),
        order: Order::Fifo,
        opens: Some("2026-12-01 10:00:00 America/Argentina/ComodRivadavia (-03:00)".into()),
        closes: Some("2026-12-01 12:00:00 America/Argentina/ComodRivadavia (-03:00)".into()),
        stock: Some(10_000_000),
        per_visitor_max: Some(2),
        claim_window_s: 900,
        reserve_s: 900,
    };
    let full = Shown {
        state: "waiting",
        room_stage: "waiting",
        room: "r".repeat(64),
        prefix: format!("/{}/", "p".repeat(62)),
        to: format!("/{}", "'<&".repeat(40)),
        place: Some((u32::MAX, 1)),
        entry: None,
        unrendered: false,
        draw: None,
        work: None,
        unnamed: false,
        first_place: 0,
        ahead: u64::from(u32::MAX),
        wait_s: Some((7_000, 86_400)),
        stock_percent: Some(100),
        because: Some(Cause::ShopSlower),
        poll_after_s: 900,
        opens_in_s: None,
        claim_s: None,
        called: false,
        restarted: true,
        sold_out: None,
        message: Some("We are <putting> more & more pairs on the shelf. ".repeat(10)),
        rules,
        events: true,
    };
    let none = Shown {
        place: None,
        wait_s: None,
        stock_percent: None,
        because: None,
        message: None,
        restarted: false,
        rules: Rules::default(),
        ..full.clone()
    };
    let asked = Asked { challenge: "f".repeat(32), bits: 24, left_s: 86_400 };
    vec![
        Shown { state: "prequeue", room_stage: "prequeue", opens_in_s: Some(86_000), ..full.clone() },
        Shown { state: "called", claim_s: Some(900), called: true, ..full.clone() },
        Shown { state: "called", claim_s: Some(0), called: true, ..full.clone() },
        Shown { state: "next", claim_s: Some(0), ..full.clone() },
        Shown { state: "paused", room_stage: "paused", because: Some(Cause::Paused), ..full.clone() },
        Shown { state: "full", ..none.clone() },
        Shown { state: "sold_out", sold_out: Some(false), wait_s: None, ..full.clone() },
        Shown { state: "sold_out", sold_out: Some(true), ..none.clone() },
        Shown { entry: Some(u32::MAX), unrendered: true, draw: Some(("open", None)), ..prequeue(&none) },
        Shown { entry: Some(7), draw: Some(("frozen", Some(9_999_999))), ..prequeue(&none) },
        Shown { entry: Some(7), draw: Some(("late", Some(9_999_999))), ..prequeue(&none) },
        Shown { draw: Some(("open", None)), ..prequeue(&none) },
        Shown { draw: Some(("open", None)), work: Some(asked), ..prequeue(&none) },
        full,
    ]
}

fn prequeue(other: &Shown) -> Shown {
    Shown { state: "prequeue", room_stage: "prequeue", opens_in_s: Some(86_000), ..other.clone() }
}

#[cfg(test)]
pub(super) fn sample_pages(page: &RoomPage) -> Vec<(&'static str, Page)> {
    let mut out = Vec::new();
    for (language, t) in page.languages.iter().zip(&page.words) {
        for shown in samples() {
            if let Ok(rendered) = render(page, language, t, &shown) {
                out.push((shown.state, rendered));
            }
        }
    }
    out
}
