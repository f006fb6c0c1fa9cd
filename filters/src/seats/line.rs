//! The line: two lanes, claims, calls.
