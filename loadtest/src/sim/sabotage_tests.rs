//! Each checker sees what it is there for: the simulation over filters with a bug put in on purpose.

use tidegate_filters::sabotage::{Bug, in_this_thread};

use super::{random_world, run};
use crate::checkers::{CHECKERS, Checker, judge};

/// Worlds in which a bug must show at least once.
const SEEDS: u64 = 60;

/// A bug, and the rule that it breaks.
const MUST_SEE: [(Bug, &str); 28] = [
    (Bug::BucketMintsTwice, "admissions_within_refill"),
    (Bug::BurstOutlivesPlan, "admissions_within_refill"),
    (Bug::SeatsIgnoreMax, "live_seats_within_max"),
    (Bug::GenerationNotBumped, "one_place_one_pass_one_seat"),
    (Bug::GenerationNotChecked, "only_issued_tokens"),
    (Bug::SeatOutlivesAge, "only_issued_tokens"),
    (Bug::ClaimsHighestFirst, "no_inversion"),
    (Bug::ClaimsFall, "no_inversion"),
    (Bug::OffersNeverEnd, "nothing_is_kept_for_ever"),
    (Bug::CallsOutOfOrder, "no_inversion"),
    (Bug::FrontierSkipsPresent, "no_inversion"),
    (Bug::CallsNeverExpire, "nobody_waits_for_ever"),
    (Bug::TicketNotBurnt, "one_place_one_pass_one_seat"),
    (Bug::LeaveNotCounted, "everybody_is_somewhere"),
    (Bug::PlaceGivenTwice, "one_place_one_pass_one_seat"),
    (Bug::TagNotChecked, "only_issued_tokens"),
    (Bug::ForeignRoomAccepted, "only_issued_tokens"),
    (Bug::ForeignHostAccepted, "only_issued_tokens"),
    (Bug::OldEpochAccepted, "only_issued_tokens"),
    (Bug::ExpiryNotChecked, "only_issued_tokens"),
    (Bug::CarryOverForgets, "everybody_is_somewhere"),
    (Bug::SoldOutStillSeats, "nobody_seated_when_nothing_is_left"),
    (Bug::RowVanishes, "every_request_has_a_row"),
    (Bug::RefusedHeadNotCounted, "every_request_has_a_row"),
    (Bug::StockNotChecked, "stock_is_never_oversold"),
    (Bug::HoldSentTwice, "stock_is_never_oversold"),
    (Bug::LostAnswerFrees, "stock_is_never_oversold"),
    (Bug::ReservedForNobody, "a_seat_is_worth_a_unit"),
];

fn checker(name: &str) -> Checker {
    CHECKERS.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no rule {name}")).1
}

#[test]
fn every_bug_is_seen_by_its_checker() {
    let mut blind = Vec::new();
    for (bug, rule) in MUST_SEE {
        let sees = |seed: &u64| {
            let world = random_world(*seed);
            in_this_thread(Some(bug));
            let outcome = run(&world, *seed);
            in_this_thread(None);
            let seen = checker(rule)(&outcome.log);
            if let Some(first) = seen.first() {
                println!("{bug:?}, seed {seed}: {first}");
            }
            !seen.is_empty()
        };
        if !(0..SEEDS).any(|seed| sees(&seed)) {
            blind.push(format!("{rule} does not see {bug:?} in {SEEDS} worlds"));
        }
    }
    assert!(blind.is_empty(), "{}", blind.join("\n"));
}

#[test]
fn every_checker_is_shown_a_bug() {
    for (name, _) in CHECKERS {
        assert!(MUST_SEE.iter().any(|(_, rule)| *rule == name), "no bug is there for {name}");
    }
}

#[test]
fn without_a_bug_there_is_nothing_to_see() {
    for seed in 0..SEEDS {
        assert_eq!(judge(&run(&random_world(seed), seed).log), [], "seed {seed}");
    }
}
