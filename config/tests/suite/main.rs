//! The policy language from outside: messages, examples, hostile text.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod examples;
mod files;
mod golden;
mod hostile;
