//! The data plane over real sockets: a gate and a small shop in one process, everything on port 0.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod answers;
mod challenge;
mod door;
mod forwarding;
mod framing;
mod limits;
mod room;
mod support;
mod tls;
mod waiting;
