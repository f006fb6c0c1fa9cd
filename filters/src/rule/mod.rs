//! One file per filter: settings, state, rule, tests.

pub mod address;
pub mod bot_gate;
pub mod fact;
pub mod good_bots;
pub mod honeypot;
pub mod pass;
pub mod sale_window;
pub mod visitor_rate;
pub mod waiting_room;
