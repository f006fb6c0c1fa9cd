//! The draw, "balls in a drum": an order that the operator cannot choose and that anybody can recompute.
//!
//! 1. *Commit.* Before the first entry the gate publishes the rules' hash and `C`, which hides a secret `k`.
//! 2. *Enter.* Every visitor becomes an entry with an index, a public name and a signed receipt.
//! 3. *Freeze.* Entries get their weights; the root of all is signed. An index that was reserved and never used is a void
//!    leaf.
//! 4. *Draw.* The seed comes from `k`, the root and a round of public randomness that is fixed by formula. Each entry has as
//!    many balls as it has weight; its smallest ball decides its place.
//! 5. *Reveal.* The transcript and the list; [`verify::verify`] draws again.
//!
//! A sale may instead be drawn window by window: window `j` is a draw of its own under the name `SALE#j`
//! ([`commit::window_id`]), with the secret `k_j` of a hash chain whose first secret `C` commits to; indices start at 0 in
//! every window, and a place is the number of places given before plus the place in the window.
//!
//! Every hashed, MACed or signed input starts with its own label, except tree nodes (a prefix byte) and balls (a key used
//! for nothing else). Pure: secrets, keys, time and beacon values are arguments.

pub mod beacon;
pub mod census;
pub mod commit;
pub mod digest;
pub mod drum;
pub mod entries;
pub mod entry;
#[cfg(test)]
mod fairness_tests;
pub mod grind;
pub mod live;
pub mod mass;
pub mod people;
pub mod register;
pub mod rehearse;
pub mod rules;
pub mod slots;
pub mod statement;
pub mod transcript;
pub mod tree;
pub mod verify;
#[cfg(test)]
mod verify_tests;
pub mod weights;
pub mod work;
