//! A candidate beside the live model on what has happened: may it take its place?

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;
use tidegate_filters::Row;

use super::{
    book::{Book, Rescore, Visitor},
    curve::curve,
    gates::Gates,
    labels::{Label, Labels},
    what_if::{Example, example},
};
use crate::{
    bots::{
        Sample,
        evaluate::share,
        judge::{Band, Fairness, SLICE_MIN, Scored, fairness},
        keep_visit,
    },
    features::Features,
};

/// To so large a share of visitors a candidate may do something worse than the live model does.
pub const HURT_MAX: f64 = 0.01;
/// A candidate's AUC may be so much smaller: less is noise of the last digits.
const AUC_SLACK: f64 = 0.001;
/// Visits of labelled people kept for the fairness gate, at about 280 bytes each.
const PEOPLE_VISITS_MAX: usize = 400_000;
/// Visitors named.
const EXAMPLES_MAX: usize = 10;

/// What the comparison found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// Visits that the live model scored.
    pub visits: u64,
    /// Of them the candidate gave no score to.
    pub unscored: u64,
    /// Visitors that are not labelled as programs.
    pub visitors: u64,
    /// Of them so many would fare worse with the candidate, at the live thresholds.
    pub worse: u64,
    /// Their share, and its 95 % interval.
    pub worse_share: [f64; 3],
    /// Of them so many bought something.
    pub worse_buyers: u64,
    /// So many visitors, programs or not, would fare better.
    pub milder: u64,
    /// Labelled people and programs among the visitors.
    pub labelled: [usize; 2],
    /// AUC of the live model and of the candidate by these labels.
    pub auc: Option<[f64; 2]>,
    /// Whom the candidate touches of labelled people, group by group.
    pub fairness: Option<Fairness>,
    /// Who would fare worse, for example.
    pub examples: Vec<Example>,
    /// Why the candidate may not take the place.
    pub refusals: Vec<String>,
    /// What could not be judged.
    pub notes: Vec<String>,
}

/// Takes the journal in.
pub struct Comparing<'a> {
    gates: Gates,
    labels: Option<&'a Labels>,
    live: Book,
    candidate: Book,
    /// Visits of labelled people, and whether the candidate touches them.
    people: Vec<(Sample, bool)>,
    visits: HashMap<u64, u32>,
    nothing: Arc<str>,
}

impl<'a> Comparing<'a> {
    /// By the live gates, and by labels where there are any.
    pub fn new(gates: Gates, labels: Option<&'a Labels>) -> Self {
        let (live, candidate) = (Book::new(gates.clone()), Book::new(gates.clone()));
        Comparing { gates, labels, live, candidate, people: vec![], visits: HashMap::new(), nothing: "".into() }
    }

    /// Takes a row, with what both models say about features.
    pub fn take(&mut self, row: &Row, live: &Rescore<'_>, candidate: &Rescore<'_>) {
        self.live.take(row, Some(live));
        self.candidate.take(row, Some(candidate));
        let person = self.labels.and_then(|l| l.get(row.visitor)) == Some(Label::Person);
        let Ok(features) = Features::try_from(row.features.as_slice()) else { return };
        if !person || self.people.len() >= PEOPLE_VISITS_MAX {
            return;
        }
        let Some(score) = candidate(&features) else { return };
        let visit = self.visits.entry(row.visitor).or_default();
        *visit += 1;
        if !keep_visit(*visit) {
            return;
        }
        let sample = Sample {
            features,
            bot: false,
            family: self.nothing.clone(),
            site: self.nothing.clone(),
            network: row.network,
            visitor: row.visitor,
            visit: *visit,
            weight: 1.0,
        };
        self.people.push((sample, self.gates.touches(&row.route, score)));
    }

    /// Judges. `hurt_max`: the share of [`Compared::worse`] that is allowed.
    pub fn close(self, hurt_max: f64) -> Result<Compared, String> {
        let Comparing { labels, live, candidate, people, .. } = self;
        if live.scored == 0 {
            return Err(
                "no scored visit: the policy needs a bot_gate and a journal, whose rows can be read once their file is closed"
                    .into(),
            );
        }
        let (visits, unscored) = (live.scored, live.scored.saturating_sub(candidate.scored));
        let (live, candidate) = (live.close(), candidate.close());
        let by_id: HashMap<u64, &Visitor> = live.iter().map(|v| (v.id, v)).collect();
        let pairs = || candidate.iter().filter_map(|c| Some((*by_id.get(&c.id)?, c)));
        let program = |v: &Visitor| labels.and_then(|l| l.get(v.id)) == Some(Label::Program);
        let visitors = pairs().filter(|(_, c)| !program(c)).count();
        let mut worse: Vec<(&Visitor, &Visitor)> = pairs().filter(|(l, c)| !program(c) && c.would > l.would).collect();
        worse.sort_by(|(_, a), (_, b)| a.told_before(b));
        let curves = labels.map(|labels| [curve(&live, labels), curve(&candidate, labels)]);
        let mut out = Compared {
            visits,
            unscored,
            visitors: visitors as u64,
            worse: worse.len() as u64,
            worse_share: share(worse.len(), visitors),
            worse_buyers: worse.iter().filter(|(_, c)| c.sold > 0).count() as u64,
            milder: pairs().filter(|(l, c)| c.would < l.would).count() as u64,
            labelled: curves.as_ref().map_or([0, 0], |[_, c]| [c.people, c.programs]),
            auc: curves.filter(|[_, c]| c.people > 0 && c.programs > 0).map(|c| c.map(|c| c.figures.auc)),
            fairness: fair(&people),
            examples: worse.iter().take(EXAMPLES_MAX).map(|(l, c)| Example { was: l.would, ..example(c) }).collect(),
            refusals: vec![],
            notes: vec![],
        };
        out.judge(hurt_max, labels.is_some());
        Ok(out)
    }
}

impl Compared {
    fn judge(&mut self, hurt_max: f64, labels: bool) {
        let mut refused = vec![];
        if self.unscored > 0 {
            refused.push(format!("it gives no score to {} of {} visits that the live model scores", self.unscored, self.visits));
        }
        if self.worse_share[0] > hurt_max {
            refused.push(format!(
                "{} of {} visitors ({:.2} %) would fare worse at the live thresholds; allowed are {:.2} %",
                self.worse,
                self.visitors,
                100.0 * self.worse_share[0],
                100.0 * hurt_max
            ));
        }
        match self.auc {
            Some([live, candidate]) if candidate < live - AUC_SLACK => {
                refused.push(format!("its AUC by the labels is {candidate:.3}, that of the live model {live:.3}"));
            }
            Some(_) => {}
            None if labels => {
                let [people, programs] = self.labelled;
                refused.push(format!(
                    "of the labels {people} people and {programs} programs are in this journal: label some of each"
                ));
            }
            None => self.notes.push("without labels nothing says which model tells programs better, and for whom it errs".into()),
        }
        match &self.fairness {
            Some(f) if !f.fair => refused.push(format!(
                "it is not fair: of one group of labelled people it touches {:.2} times the share that it touches of all, allowed is {}",
                f.worst,
                crate::bots::judge::FAIR_RATIO_MAX
            )),
            Some(f) if f.slices.iter().any(|s| s.judged) => {}
            _ if labels => self.notes.push(format!("no group of labelled people has the {SLICE_MIN} visits that fairness is judged by")),
            _ => {}
        }
        self.refusals = refused;
    }
}

/// The fairness gate, where it is not the score that counts but whether something happens.
fn fair(people: &[(Sample, bool)]) -> Option<Fairness> {
    let all: Vec<Scored<'_>> = people
        .iter()
        .map(|(sample, touched)| Scored { sample, score: f32::from(u8::from(*touched)), band: Band::default() })
        .collect();
    (!all.is_empty()).then(|| fairness(&all, 1.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        features::{FEATURES, N},
        tune::Thresholds,
    };

    const HURT: f64 = 0.01;

    /// A visit about which the live model says the first and the candidate the second; NaN: nothing.
    fn row(visitor: u64, live: f32, candidate: f32) -> Row {
        let mut features = vec![0.0; N];
        features[..2].copy_from_slice(&[live, candidate]);
        Row { visitor, network: visitor, class: "human", features, place: u64::MAX, ..Row::default() }
    }

    fn compared(rows: &[Row], labels: Option<&Labels>, hurt_max: f64) -> Result<Compared, String> {
        let at = Thresholds { to_the_back_at: Some(0.85), ..Thresholds::default() };
        let mut comparing = Comparing::new(Gates::everywhere(at), labels);
        let says = |i: usize| move |features: &[f32]| Some(features[i]).filter(|p| p.is_finite());
        rows.iter().for_each(|r| comparing.take(r, &says(0), &says(1)));
        comparing.close(hurt_max)
    }

    fn labels(people: std::ops::Range<u64>, programs: std::ops::Range<u64>) -> Labels {
        let mut labels = Labels::default();
        people.for_each(|id| labels.set(id, Label::Person, ""));
        programs.for_each(|id| labels.set(id, Label::Program, ""));
        labels
    }

    #[test]
    fn more_people_hurt_than_allowed_are_a_reason_and_programs_are_none() {
        let rows: Vec<Row> = (1..=100).map(|i| row(i, if i == 9 { 0.9 } else { 0.1 }, if i <= 3 { 0.9 } else { 0.2 })).collect();
        let c = compared(&rows, None, HURT).unwrap();
        assert_eq!((c.visits, c.visitors, c.worse, c.milder, c.notes.len()), (100, 100, 3, 1, 1));
        assert!(c.refusals[0].starts_with("3 of 100 visitors (3.00 %) would fare worse"), "{:?}", c.refusals);
        assert_eq!((c.examples.len(), c.examples[0].was, c.examples[0].score), (3, super::super::Act::Nothing, 0.9));
        assert_eq!(compared(&rows, None, 0.03).unwrap().refusals, [""; 0]);
        let known = labels(50..100, 1..4);
        let c = compared(&rows, Some(&known), HURT).unwrap();
        assert_eq!((c.visitors, c.worse, c.refusals.len(), c.labelled), (97, 0, 0, [50, 3]), "{:?}", c.refusals);
    }

    #[test]
    fn worse_by_the_labels_silent_or_without_a_journal_is_refused() {
        let known = labels(1..50, 50..100);
        let program = |i: u64| f32::from(u8::from(i >= 50)) * 0.5;
        let rows: Vec<Row> = (1..100).map(|i| row(i, program(i), if i % 10 == 0 { 0.0 } else { program(i) })).collect();
        let c = compared(&rows, Some(&known), HURT).unwrap();
        assert!(c.refusals.len() == 1 && c.refusals[0].starts_with("its AUC by the labels is 0.9"), "{:?}", c.refusals);
        let better =
            compared(&rows.iter().map(|r| row(r.visitor, r.features[1], r.features[0])).collect::<Vec<_>>(), Some(&known), HURT);
        assert_eq!(better.unwrap().refusals, [""; 0]);
        let strangers = compared(&rows, Some(&labels(500..510, 510..520)), HURT).unwrap();
        assert!(strangers.refusals[0].contains("0 people and 0 programs are in this journal"), "{:?}", strangers.refusals);
        let silent = compared(&[row(1, 0.1, 0.1), row(2, 0.1, f32::NAN)], None, HURT).unwrap();
        assert!(silent.refusals[0].starts_with("it gives no score to 1 of 2 visits"), "{:?}", silent.refusals);
        let other = Row { features: vec![1.0], ..row(1, 0.1, 0.1) };
        assert!(compared(&[other], None, HURT).unwrap_err().contains("no scored visit"));
    }

    #[test]
    fn a_group_of_people_that_fares_worse_is_a_reason() {
        let cookie = FEATURES.iter().position(|f| f.name == "known_by_cookie").unwrap();
        let rows = |dropping: u64| -> Vec<Row> {
            let of = |i: u64| {
                let drops = i < 600;
                // 1 % of those with cookies are touched; live and candidate touch the same.
                let score = if i % 100 < if drops { dropping } else { 1 } { 0.9 } else { 0.1 };
                let mut row = row(1 + i, score, score);
                row.features[cookie] = if drops { -1.0 } else { 1.0 };
                row
            };
            (0..1800).map(of).chain([row(9000, 0.9, 0.9)]).collect()
        };
        let known = labels(1..1801, 9000..9001);
        assert_eq!(compared(&rows(1), Some(&known), HURT).unwrap().refusals, [""; 0]);
        let unfair = compared(&rows(4), Some(&known), HURT).unwrap().refusals;
        assert!(unfair.len() == 1 && unfair[0].contains("it touches 2.00 times the share"), "{unfair:?}");
    }
}
