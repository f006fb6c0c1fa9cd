//! End to end: real sockets, real files, one binary.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, unreachable_pub)]

mod appeals;
mod applied;
mod batched;
mod browser;
mod called_off;
mod crowd;
mod draw;
mod draw_cancelled;
mod draw_kill;
mod draw_live;
mod draw_people;
mod draw_promise;
mod draw_rendered;
mod facts;
mod good_bots;
mod good_bots_published;
mod kills;
mod kills_stock;
mod learning;
mod own_pages;
mod page_script;
mod program;
mod promote;
mod read_only;
mod sale;
mod stock;
mod stock_http2;
mod support;
mod tidy;
mod trouble;
mod tuning;
