use super::*;
use crate::features::N;

fn sample(bot: bool, visitor: u64, visit: u32) -> Sample {
    Sample {
        features: [0.0; N],
        bot,
        family: if bot { "crawler" } else { "people" }.into(),
        site: "shop".into(),
        network: visitor / 2,
        visitor,
        visit,
        weight: 1.0,
    }
}

fn scored<'a>(all: &'a [(Sample, f32)], band: Band) -> Vec<Scored<'a>> {
    all.iter().map(|(sample, score)| Scored { sample, score: *score, band }).collect()
}

const BAND: Band = Band { person_below: 0.2, program_from: 0.8 };

#[test]
fn who_is_decided_when_and_how_rightly() {
    let visits = [
        // Decided rightly at once, at the third visit, never; wrongly at the second.
        (sample(true, 1, 1), 0.9),
        (sample(false, 2, 1), 0.5),
        (sample(false, 2, 2), 0.5),
        (sample(false, 2, 3), 0.1),
        (sample(true, 3, 1), 0.5),
        (sample(false, 4, 1), 0.3),
        (sample(false, 4, 2), 0.85),
        // Its first visit is not here.
        (sample(false, 5, 2), 0.0),
    ];
    let d = judge(&scored(&visits, BAND), 0.85).decided;
    assert_eq!(d.visitors, 4);
    assert_eq!(d.undecided_after, [(1, 0.75), (2, 0.5), (3, 0.25), (8, 0.25)]);
    assert_eq!((d.people_wrong, d.programs_wrong, d.median_visits), (0.5, 0.0, 2));
}

#[test]
fn borders_leave_one_in_twenty_wrong_whatever_the_mix() {
    // Of 1000 people 1 % above 0.9, of 50 programs 80 %: were both as many, 1 of 81 would be a person.
    let people = (0..1000).map(|i| (if i < 10 { 0.9 } else { 0.1 }, false, 1));
    let programs = (0..50).map(|i| (if i < 40 { 0.9 } else { 0.5 }, true, 1));
    let b = band(people.clone().chain(programs.clone()));
    assert_eq!((b.program_from, b.person_below), (0.5, 0.1f32.next_up()));
    // With 10 % of people up there one of nine would be wrong: nothing is decided above.
    let worse = (0..1000).map(|i| (if i < 100 { 0.9 } else { 0.1 }, false, 1));
    assert_eq!(band(worse.chain(programs)).program_from, f32::INFINITY);
    assert_eq!(band(std::iter::empty()), Band::default());
}

#[test]
fn intervals_hold_their_figure_and_are_wide_where_networks_are_few() {
    let visit = |i: u64| {
        let bot = i.is_multiple_of(3);
        // One of five is taken for the other.
        (sample(bot, i, 1), if bot != i.is_multiple_of(5) { 0.9 } else { 0.2 + (i % 7) as f32 / 100.0 })
    };
    let many: Vec<(Sample, f32)> = (0..3000).map(visit).collect();
    let mut few = many.clone();
    few.iter_mut().for_each(|(s, _)| s.network %= 6);
    let width = |all: &[(Sample, f32)]| {
        let [auc, low, high] = judge(&scored(all, BAND), 0.85).all.auc.unwrap_or_default();
        assert!(low <= auc && auc <= high, "{low} {auc} {high}");
        (auc, high - low)
    };
    let ((a, narrow), (b, wide)) = (width(&many), width(&few));
    assert_eq!(a, b);
    assert!(narrow > 0.0 && wide > 0.0 && narrow < 0.06, "{narrow} {wide}");
    let one: Vec<(Sample, f32)> = many.iter().filter(|(s, _)| !s.bot).cloned().collect();
    assert_eq!(judge(&scored(&one, BAND), 0.85).all.auc, None, "one class");
}

#[test]
fn slices_are_judged_where_they_are_large_and_told_where_they_are_not() {
    let cookie = crate::features::FEATURES.iter().position(|f| f.name == "known_by_cookie").unwrap_or_default();
    let mut all: Vec<(Sample, f32)> = (0..2000)
        .map(|i| {
            let mut s = sample(false, 10 + i, 1);
            s.features[cookie] = if i < 600 { -1.0 } else { 1.0 };
            // 3 % of those without cookies are hurt, 1 % of the others.
            (s, if i % 100 < if i < 600 { 3 } else { 1 } { 0.9 } else { 0.1 })
        })
        .collect();
    all.extend((0..100).map(|i| {
        let mut s = sample(false, 9000 + i, 1);
        s.family = "few".into();
        (s, 0.9)
    }));
    all.push((sample(true, 1, 1), 0.9));
    let f = judge(&scored(&all, BAND), 0.85).fairness;
    let of = |name: &str| f.slices.iter().find(|s| s.name == name);
    let few = of("few").map(|s| (s.people, s.judged, s.above[0]));
    assert_eq!(few, Some((100, false, 1.0)));
    assert_eq!(of("drops our cookie").map(|s| (s.people, s.judged)), Some((600, true)));
    let (all_above, dropped) = (132.0 / 2100.0, 0.03);
    let ratio = of("drops our cookie").and_then(|s| s.ratio).unwrap_or_default();
    assert!((ratio - dropped / all_above).abs() < 1e-3, "{ratio}");
    assert!(f.fair, "the slice that fares worst is too small to be judged: {f:?}");
    let without: Vec<(Sample, f32)> = all.into_iter().filter(|(s, _)| &*s.family != "few").collect();
    let f = judge(&scored(&without, BAND), 0.85).fairness;
    assert!(!f.fair && (f.worst - 0.03 / 0.016).abs() < 1e-3, "{f:?}");
}

#[test]
fn a_calibrated_score_lies_on_the_diagonal_and_groups_have_their_names() {
    let exact: Vec<(Sample, f32)> = (0..4000)
        .map(|i| {
            let p = 0.1 + 0.2 * (i % 4) as f32;
            (sample(((i / 4) % 10) < (10.0 * p).round() as u64, i, 1 + (i % 2) as u32), p)
        })
        .collect();
    let j = judge(&scored(&exact, BAND), 0.5);
    assert!(j.calibration_error < 0.01 && j.calibration.len() == 4, "{} {:?}", j.calibration_error, j.calibration);
    let sure: Vec<(Sample, f32)> = exact.iter().map(|(s, p)| (s.clone(), if *p > 0.4 { 0.99 } else { 0.01 })).collect();
    assert!(judge(&scored(&sure, BAND), 0.5).calibration_error > 0.15);
    assert_eq!(j.families.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["crawler"]);
    assert_eq!(j.families[0].marks.people, j.all.people);
    let by: Vec<usize> = j.by_visit.iter().map(|g| g.marks.people + g.marks.programs).collect();
    assert_eq!(by, [2000, 2000, 0, 0]);
    let ends = (j.curves.roc.first().copied(), j.curves.roc.last().copied());
    assert_eq!(ends, (Some((0.0, 0.0)), Some((1.0, 1.0))));
    assert!((j.curves.people.iter().sum::<f64>() - 1.0).abs() < 1e-9);
}
