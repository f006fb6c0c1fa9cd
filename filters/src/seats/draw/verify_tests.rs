//! The vector of the protocol, and that every substitution is found and named.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{
    beacon::{BeaconCheck, LocalBeacon, check_local},
    commit::{commitment, rules_hash},
    digest::{hash, hex, unhex},
    drum::{Drum, places, seed},
    entries::Listed,
    entry::{Entry, Leaves},
    grind::grind,
    rehearse::{Invented, Rehearsal, RehearsalBeacon},
    statement::Receipt,
    transcript::{Amendment, Transcript},
    tree::{Tree, root_of_path},
    verify::{Fault, Published, Report, prove, verify},
};

#[test]
fn the_vector_of_the_protocol() {
    let rules_json = r#"{"order":"draw_then_fifo","weights":{"human":16,"suspect":1,"unsure":8}}"#;
    let secret = std::array::from_fn(|i| i as u8);
    let rules = rules_hash(rules_json);
    assert_eq!(hex(&rules), "66c106e27e4fde6ccdac63ea62201069c4bab220361809e69543f5e1c83031b2");
    let promised = commitment("demo", &rules, &secret);
    assert_eq!(hex(&promised), "9d64c028e27d7827b46ee6be40f88c9d6ba7b5e8e7ca5eca5df9a35ec421b23b");
    let entry = |n, weight| Entry { id: [n; 16], weight };
    let entries = [entry(1, 16), entry(2, 8), entry(3, 1), Entry::VOID];
    let root = Tree::new(Leaves::new("demo").all(&entries)).root();
    assert_eq!(hex(&root), "c383f4ede56db93f290987c7e48809591a53a28f2936d492f28a01760d5e3dec");
    let seed = seed(&secret, &root, "demo", &promised, 4, &[0xbb; 32]);
    assert_eq!(hex(&seed), "6be95d020610f1904855acb3e3e26ca4ed5f1c2b361b3a101503de6e6b3432c1");
    let order = Drum::new(&seed).order(&entries);
    assert_eq!(order, [0, 1, 2]);
    assert_eq!(places(&order, 4), [Some(0), Some(1), Some(2), None]);
}

fn invented(seed: u64, entries: usize, beacon: RehearsalBeacon, window: Option<u64>) -> Invented {
    Rehearsal { entries, seed, beacon, window }.run()
}

fn check(t: &Transcript, listed: &Listed) -> Report {
    verify(t, listed, Published::default(), &|b| check_local(b).unwrap_or(BeaconCheck::Unproven("another beacon".into())))
}

/// What `verify` says about a sale bent in one way.
fn said(mut bend: impl FnMut(&mut Transcript, &mut Listed, &Invented)) -> String {
    let sale = invented(3, 300, RehearsalBeacon::Local, None);
    let (mut t, mut listed) = (sale.transcript.clone(), sale.listed.clone());
    bend(&mut t, &mut listed, &sale);
    check(&t, &listed).faults.iter().map(|f| format!("{f}\n")).collect()
}

#[test]
fn a_right_sale_verifies_with_and_without_beacon_and_in_windows() {
    for window in [None, Some(0), Some(1), Some(40)] {
        for beacon in [RehearsalBeacon::Local, RehearsalBeacon::None] {
            let without = beacon == RehearsalBeacon::None;
            for n in [0, 1, 2, 3, 17, 300] {
                let sale = invented(n as u64, n, beacon.clone(), window);
                let report = check(&sale.transcript, &sale.listed);
                assert_eq!(report.faults, [], "{n} entries, window {window:?}");
                assert_eq!((report.without_beacon, report.unproven), (without, None));
                assert_eq!(report.places, sale.listed.places);
            }
        }
    }
    assert_eq!(said(|_, _, _| ()), "");
}

#[test]
fn a_substituted_secret_rule_or_key_is_named() {
    let secret = said(|t, _, _| t.secret[0] ^= 1);
    assert!(secret.contains("the secret was substituted") && secret.contains("seed:"), "{secret}");
    let rule = said(|t, _, _| t.rules_json = t.rules_json.replace("\"unsure\":8", "\"unsure\":9"));
    assert!(rule.contains("rules_json was changed"), "{rule}");
    let both = said(|t, _, _| {
        t.rules_json = t.rules_json.replace("\"stock\":500", "\"stock\":400");
        t.rules = rules_hash(&t.rules_json);
    });
    assert!(both.contains("or the rules together with their hash"), "{both}");
    let spaced = said(|t, _, _| {
        t.rules_json = t.rules_json.replace(",", ", ");
        t.rules = rules_hash(&t.rules_json);
        t.commitment = commitment(&t.sale_id, &t.rules, &t.secret);
    });
    assert!(spaced.contains("not canonical") && spaced.contains("frozen list: not signed"), "{spaced}");
    let key = said(|t, _, _| t.public_key = invented(4, 0, RehearsalBeacon::None, None).transcript.public_key);
    assert!(key.contains("frozen list: not signed by the gate's key"), "{key}");
}

#[test]
fn a_substituted_entry_weight_or_place_is_named() {
    let entry = said(|_, l, _| l.entries[7].id[3] ^= 1);
    assert!(entry.contains("an entry or a weight was substituted"), "{entry}");
    let weight = said(|_, l, _| {
        let heavy = l.entries.iter().position(|e| e.weight == 8).unwrap();
        l.entries[heavy].weight = 16;
    });
    assert!(weight.contains("an entry or a weight was substituted"), "{weight}");
    let strange = said(|_, l, _| l.entries[7].weight = 3);
    assert!(strange.contains("entry 7: weight 3 is not in the rules' table"), "{strange}");
    let resigned_root = said(|t, l, _| {
        l.entries[7].id[3] ^= 1;
        t.root = Tree::new(Leaves::new(&t.sale_id).all(&l.entries)).root();
    });
    assert!(resigned_root.contains("frozen list: not signed") && resigned_root.contains("seed:"), "{resigned_root}");
    let dropped = said(|_, l, _| {
        l.entries.pop();
        l.places.pop();
    });
    assert!(dropped.contains("the file has 299, frozen were 300"), "{dropped}");
    let place = said(|_, l, _| l.places.swap(10, 11));
    assert!(place.contains("the place was substituted (1 more like it)"), "{place}");
}

#[test]
fn a_substituted_round_or_beacon_is_named() {
    let later = said(|t, _, s| {
        let beacon = LocalBeacon::new(&beacon_key(s));
        t.beacon = Some(beacon.round(t.beacon.as_ref().unwrap().round + 1));
    });
    assert!(later.contains("the round was substituted") && later.contains("frozen list"), "{later}");
    let value = said(|t, _, _| t.beacon.as_mut().unwrap().value[0] ^= 1);
    assert!(value.contains("beacon: its value does not follow"), "{value}");
    let none = said(|t, _, _| t.beacon = None);
    assert!(none.contains("the transcript has none"), "{none}");
    let frozen = said(|t, _, _| t.frozen_at += 1);
    assert!(frozen.contains("frozen list: not signed"), "{frozen}");
    let amendment = said(|t, _, s| {
        let right = Amendment::sign(&s.signer, &t.sale_id, &t.commitment, 5, "opens an hour later");
        t.amendments = vec![right.clone(), Amendment { text: "opens two hours later".into(), ..right }];
    });
    assert!(amendment.contains("amendment 1") && !amendment.contains("amendment 0"), "{amendment}");
    let mut forged = None;
    said(|t, _, s| {
        let right = Amendment::sign(&s.signer, &t.sale_id, &t.commitment, 5, "cancelled: fire");
        t.amendments = vec![Amendment { text: "cancelled: flood".into(), ..right.clone() }];
        let not_signed = t.cancelled().map(str::to_owned);
        t.amendments = vec![right];
        forged = Some((not_signed, t.cancelled().map(str::to_owned)));
    });
    assert_eq!(forged, Some((None, Some("fire".into()))), "words that the gate did not sign cancel nothing");
}

/// The key of the local beacon of an invented sale.
fn beacon_key(sale: &Invented) -> [u8; 32] {
    let seed: u64 = sale.transcript.sale_id.rsplit('-').next().unwrap().parse().unwrap();
    hash([b"tidegate/1/rehearsal".as_slice(), b"beacon", &seed.to_be_bytes()])
}

#[test]
fn what_was_published_before_the_sale_counts() {
    let sale = invented(3, 20, RehearsalBeacon::None, None);
    let published = Published { commitment: Some([1; 32]), public_key: Some([2; 32]) };
    let report = verify(&sale.transcript, &sale.listed, published, &|_| BeaconCheck::Proven);
    assert!(matches!(&report.faults[..], [Fault::NotAsPublished { what: "commitment", .. }, Fault::NotAsPublished { .. }]));
}

#[test]
fn a_receipt_proves_its_entry_and_a_dropped_entry() {
    let sale = invented(5, 100, RehearsalBeacon::None, None);
    let (t, listed) = (&sale.transcript, &sale.listed);
    for receipt in &sale.receipts {
        let proof = prove(t, listed, receipt).unwrap();
        let path: Vec<_> = proof.path.iter().map(|h| unhex(h).unwrap()).collect();
        assert_eq!(root_of_path(proof.index, proof.n, unhex(&proof.leaf).unwrap(), &path), Some(t.root));
        assert_eq!(proof.place, listed.places[proof.index as usize]);
    }
    let receipt = &sale.receipts[0];
    let fails = |r: Receipt, l: &Listed| prove(t, l, &r).unwrap_err().to_string();
    assert!(fails(Receipt { index: receipt.index + 1, ..receipt.clone() }, listed).contains("changed or invented"));
    assert!(fails(Receipt { sale_id: "other".into(), ..receipt.clone() }, listed).contains("of sale `other`"));
    assert!(fails(Receipt { commitment: [0; 32], ..receipt.clone() }, listed).contains("another commitment"));
    assert!(fails(Receipt { public_key: [0; 32], ..receipt.clone() }, listed).contains("another key"));
    let mut dropped = listed.clone();
    dropped.entries[receipt.index as usize].id[0] ^= 1;
    assert!(fails(receipt.clone(), &dropped).contains("This receipt proves it"));
}

#[test]
fn grinding_succeeds_without_a_beacon_and_fails_with_one() {
    let ground = grind(20_000, 6, 10, 1_000_000).unwrap();
    assert!(ground.place_without_beacon < 10, "{ground:?}");
    // The same name against 40 values that nobody knew: as good as any other, so around the middle.
    let mean = f64::from(ground.places_with_beacon.iter().sum::<u32>()) / ground.places_with_beacon.len() as f64;
    assert!(mean > 4_000.0 && ground.places_with_beacon.iter().all(|p| *p > 10), "{ground:?}");
    assert_eq!(grind(20_000, 6, 1, 10), None, "ten names do not buy the first place of 20,000");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sale_verifies_and_any_one_byte_of_its_transcript_counts(seed: u64, n in 0usize..200, at: prop::sample::Index) {
        let sale = invented(seed, n, RehearsalBeacon::Local, None);
        prop_assert_eq!(&check(&sale.transcript, &sale.listed).faults, &[]);
        let text = serde_json::to_string(&sale.transcript).unwrap();
        // Digits and letters of values only: the name of the entries file is for people.
        let spots: Vec<usize> = text.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(i, _)| i).collect();
        let spot = spots[at.index(spots.len())];
        let other = if text.as_bytes()[spot] == b'7' { "3" } else { "7" };
        let bent = format!("{}{other}{}", &text[..spot], &text[spot + 1..]);
        if let Ok(bent) = serde_json::from_str::<Transcript>(&bent) {
            prop_assert!(!check(&bent, &sale.listed).faults.is_empty(), "{} was not seen", &text[spot.saturating_sub(30)..spot + 1]);
        }
    }
}
