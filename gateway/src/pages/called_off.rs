//! What people are told of a sale that does not take place: the one place for its words.

use minijinja::context;
use tidegate_config::Timestamp;

use super::{
    Language, MESSAGES, Page, fields,
    language::{Said, put},
    message_page, urls,
};
use crate::standing::CalledOff;

/// What programs are told about a sale that was called off.
pub fn called_off_in_english(sale: &str) -> String {
    Language::all_builtin().first().map(|l| l.does_not_take_place(sale).text).unwrap_or_default()
}

/// A sale that was called off, to somebody who asks for it; the form leads on into the shop.
pub fn cancelled(accept: &str, off: &CalledOff, room: &str, code: &str) -> Page {
    let fields = fields(&[("room", room), ("to", "/")]);
    let language = MESSAGES.as_ref().and_then(|page| page.language(accept)).map(|(language, _)| language);
    let lines = language.map(|l| l.called_off(off)).unwrap_or_default();
    let more = context! { urls => urls("action", &off.leave_url), fields, lines };
    message_page(accept, code, more, |l| l.does_not_take_place(&off.sale))
}

impl Language {
    /// That a sale was called off, and what that means.
    pub fn does_not_take_place(&self, sale: &str) -> Said {
        let words = &self.words.cancelled;
        Said { title: words.title.clone(), text: put(&words.text, "sale", sale) }
    }

    /// Why it was, what is drawn instead, and the operator's word.
    pub fn called_off(&self, off: &CalledOff) -> Vec<String> {
        let words = &self.words.cancelled;
        let when = |at: &str| at.parse::<Timestamp>().map_or_else(|_| at.to_owned(), |t| t.for_people());
        let again = off.again.as_ref().map(|again| {
            let named = put(&words.again, "sale", &again.sale);
            put(&put(&named, "from", &when(&again.prequeue_opens_at)), "time", &when(&again.opens_at))
        });
        let message = off.message.as_ref().map(|text| format!("{}: {text}", self.words.labels.message));
        [Some(put(&words.why, "reason", &off.reason)), again, message].into_iter().flatten().collect()
    }
}
