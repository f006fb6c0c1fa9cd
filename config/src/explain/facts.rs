//! What is known for sure, in words.

use tidegate_filters::rule::{fact::Then, honeypot::HoneypotSettings};

use super::list;

pub(super) fn honeypot(s: &HoneypotSettings) -> String {
    format!("Honeypot: who asks for {} gets 404 and is known as a program for {}: {}.", list(&s.paths), s.remember, then(s.then))
}

fn then(then: Then) -> &'static str {
    match then {
        Then::ToTheBack => "the slow lane",
        Then::Refuse => "refused, with a way to appeal",
        Then::Log => "written down, nothing else",
    }
}
