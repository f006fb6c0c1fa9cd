//! The gate's own pages: small, without any third party, readable without JavaScript and by a screen reader.

use tidegate_filters::{Reason, seats::room::Stage};

use crate::{
    own::{State, url},
    reply::claimable,
};

/// No page of ours is longer, bytes.
pub const PAGE_BYTES_MAX: usize = 15 << 10;

const STYLE: &str = include_str!("style.css");
const WAITING: &str = include_str!("waiting.html");
const WAITING_SCRIPT: &str = include_str!("waiting.js");
const MESSAGE: &str = include_str!("message.html");

/// A title and a sentence or two, plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// What it is.
    pub title: &'static str,
    /// What it means, and what to do.
    pub text: &'static str,
}

/// A challenge whose page is too old, or that was made elsewhere.
pub const STALE_CHALLENGE: Words =
    Words { title: "This page has expired", text: "Go back, load the page again and press the button once more." };
/// The shop's answer makes no sense or broke off.
pub const SHOP_RUBBISH: Words =
    Words { title: "The shop did not answer properly", text: "This is not your fault. Try again in a moment." };
/// The shop did not answer in time.
pub const SHOP_SLOW: Words =
    Words { title: "The shop takes too long", text: "It did not answer in time. Wait a moment before you try again." };
/// What the client sent cannot be used.
pub const BAD_REQUEST: Words =
    Words { title: "This request cannot be understood", text: "Something between you and the shop changed it, or it broke off." };

/// What a visitor is told about a refusal.
pub fn words(reason: Reason) -> Words {
    let (title, text) = match reason {
        Reason::RateExceeded => {
            ("Too many requests", "You have asked more often than this shop allows. Wait a moment, then go on.")
        }
        Reason::SaleNotOpen => ("The sale has not begun", "Come back when it opens."),
        Reason::SaleClosed => ("The sale is over", "Thank you for your interest."),
        Reason::StockGone => {
            ("Sold out", "Everything has been sold. Should something come back, your place in the line is kept.")
        }
        Reason::TokenElsewhere => {
            ("You have moved", "Your place was given to you elsewhere. Press the button to go on with it from here.")
        }
        Reason::AllHeld => (
            "All in other hands",
            "Every piece is being paid for by somebody. Some of them may not finish: try again in a moment.",
        ),
        Reason::HoldInFlight => {
            ("Your order is on its way", "The shop has not answered it yet. Wait for that; sending it twice buys nothing.")
        }
        Reason::NoHold => {
            ("Nothing is reserved for you", "Start again at the cart: what was reserved for you has been given back.")
        }
        Reason::VisitorLimit => {
            ("No more for one visitor", "You have bought, or may have bought, as much as one may. Look at your orders.")
        }
        Reason::NoRoute => ("Not found", "There is nothing at this address."),
        Reason::NoPass => {
            ("A pass is needed", "Open the shop's page in your browser first; you will get a place in the line there.")
        }
        Reason::RoomFull => ("The line is full", "No more places can be given at the moment. Try again later."),
        Reason::NotKept => ("One moment", "Your place could not be written down. Try again in a few seconds: nothing is lost."),
        Reason::RoomPaused => ("The line is paused", "Nobody is let in at the moment. Your place is kept."),
        Reason::RoomDown => ("No places at the moment", "The line cannot be written down for a moment. Try again soon."),
        Reason::ShopBusy => ("The shop is busy", "It has as many requests as it can take. Try again in a few seconds."),
        Reason::ShopDown => ("The shop is not available", "It does not answer at the moment. Try again in a while."),
        Reason::BodyTooLarge => ("Too large", "What you sent is larger than this shop accepts."),
        Reason::Stopping => ("Restarting", "Try again in a few seconds."),
        _ => ("Not allowed", "This request was refused."),
    };
    Words { title, text }
}

/// A refusal.
pub fn message(words: &Words, code: &str) -> String {
    let escaped = [escape(words.title), escape(words.text), escape(code)];
    fill(MESSAGE, &[("title", &escaped[0]), ("style", STYLE), ("text", &escaped[1]), ("form", ""), ("code", &escaped[2])])
}

/// A button that only somebody who is there presses.
pub fn challenge(action: &str, to: &str, proof: &str) -> String {
    let form = format!(
        "<form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"to\" value=\"{}\">\
         <input type=\"hidden\" name=\"proof\" value=\"{}\"><button>Continue to the shop</button></form>",
        escape(action),
        escape(to),
        escape(proof)
    );
    let text = "Press the button to show that somebody is there. You will not be asked again for a while.";
    fill(MESSAGE, &[("title", "One moment"), ("style", STYLE), ("text", text), ("form", &form), ("code", "")])
}

/// The place in the line. With JavaScript it updates itself without a reload; without, it reloads.
pub fn waiting(state: &State<'_>) -> String {
    let Some(w) = state.waiting else { return message(&words(Reason::RoomFull), state.name) };
    let (title, text) = waiting_words(w.stage);
    let place = w.place.map_or("none".to_owned(), |p| format!("#{}", u64::from(p.number) + 1));
    let wait = w.wait_s.map_or("not known yet".to_owned(), |(low, high)| format!("{} to {}", span(low), span(high)));
    let room = escape(state.room.name());
    let message = state.room.current_message();
    let hidden = |hidden: bool| if hidden { " hidden" } else { "" };
    let restarted = "<p class=\"note\">The line was restarted, so earlier places are void. This is your new place.</p>";
    fill(
        WAITING,
        &[
            ("title", title),
            ("style", STYLE),
            ("script", WAITING_SCRIPT),
            ("text", &text),
            ("room", &room),
            ("state", state.name),
            ("status_url", &format!("{}?room={room}", escape(&url(state.trace, "status")))),
            ("claim_url", &escape(&url(state.trace, "claim"))),
            ("leave_url", &escape(&url(state.trace, "leave"))),
            ("to", &escape(&state.trace.intake.target())),
            ("poll", &w.poll_after_s.max(1).to_string()),
            ("place", &place),
            ("ahead", &w.ahead.to_string()),
            ("wait", &wait),
            ("message", &escape(message.as_deref().unwrap_or_default())),
            ("message_hidden", hidden(message.is_none())),
            ("claim_hidden", hidden(claimable(w.stage).is_none())),
            ("restarted", if w.restarted { restarted } else { "" }),
        ],
    )
}

fn waiting_words(stage: Stage) -> (&'static str, String) {
    match stage {
        Stage::Prequeue { opens_in_s } => {
            ("The sale has not begun", format!("It opens in {}. You have a place already.", span(opens_in_s)))
        }
        Stage::Waiting => {
            ("You are in line", "The shop lets people in one after the other, as fast as it can serve them.".into())
        }
        Stage::Called { .. } => ("It is your turn", "Enter the shop now.".into()),
        Stage::Next => ("You are next", "Your turn has come; the next free seat is yours. This takes only moments.".into()),
        Stage::Paused => ("The line is paused", "Nobody is let in at the moment. Your place is kept.".into()),
        Stage::Full => ("The line is full", "No more places can be given at the moment. This page tries again by itself.".into()),
    }
}

fn span(seconds: u32) -> String {
    match seconds {
        0..90 => format!("{seconds} s"),
        90..7_200 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{} h", (seconds + 1_800) / 3_600),
    }
}

/// Puts values into `{{name}}`. Values are inserted as they are and never looked into again.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() + STYLE.len() + 2_048);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, after)) = after.split_once("}}") else { break };
        if let Some((_, value)) = values.iter().find(|(n, _)| *n == name) {
            out.push_str(value);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// For text and for quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_break_out() {
        assert_eq!(escape("\"><script>'&"), "&quot;&gt;&lt;script&gt;&#39;&amp;");
        assert_eq!(fill("a{{x}}b{{y}}", &[("x", "{{y}}"), ("y", "1")]), "a{{y}}b1");
        let page = challenge("/.tidegate/challenge", "/x?\"><img src=x>", "p");
        assert!(!page.contains("<img"));
    }

    #[test]
    fn pages_are_small_and_self_contained() {
        for page in [challenge("/c", "/", "p"), message(&words(Reason::ShopBusy), "SHOP_BUSY")] {
            assert!(page.len() <= PAGE_BYTES_MAX && page.contains("<h1>") && page.contains("lang=\"en\""));
            assert!(!page.contains("{{") && !page.contains("http://") && !page.contains("https://"));
        }
        assert!(WAITING.len() + STYLE.len() + WAITING_SCRIPT.len() + 4_096 <= PAGE_BYTES_MAX, "with 4 KiB of texts");
    }
}
