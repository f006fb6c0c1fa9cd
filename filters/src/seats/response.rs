//! How called people respond: how likely a call of some age is still claimed, and how long claims take. Measured while it
//! happens, so that calls nobody will answer stop holding up others long before their window is over.
//!
//! Each second, everybody called and silent is one observation at that age; so is each claim. The share of claims among
//! them is the hazard of that age, and the product of what is left over gives who is still to be expected (Kaplan–Meier).

use super::line::CLAIM_WINDOW_S_MAX;

/// What was seen counts half after about six minutes of seconds.
const KEEP_A_SECOND: f64 = 0.998;
/// Before anything was seen: as if three people had been watched at each age, of whom half claim in the first second and
/// ever fewer later. Nearly everybody comes, most within five seconds, and after twenty nobody is expected.
const PRIOR_SEEN: f64 = 3.0;
const PRIOR_HAZARD: f64 = 0.5;
const PRIOR_FADES_S: f64 = 6.0;
/// A call is never expected to be answered less often than this, so that at most so many are called for one seat.
pub const SHARE_MIN: f64 = 0.2;

/// Called people, by the age of their call in seconds.
#[derive(Clone, Debug)]
pub struct Response {
    seen: Box<[f64]>,
    claimed: Box<[f64]>,
    /// Chance that a call of this age is still claimed.
    still: Box<[f64]>,
    delay_s: f64,
}

impl Default for Response {
    fn default() -> Self {
        Response::new(CLAIM_WINDOW_S_MAX as usize + 1)
    }
}

impl Response {
    /// Nothing was seen; ages up to `ages` seconds are told apart.
    pub fn new(ages: usize) -> Self {
        let prior = |age: usize| PRIOR_SEEN * PRIOR_HAZARD * (-(age as f64) / PRIOR_FADES_S).exp();
        let mut response = Response {
            seen: vec![PRIOR_SEEN; ages].into(),
            claimed: (0..ages).map(prior).collect(),
            still: vec![0.0; ages].into(),
            delay_s: 0.0,
        };
        response.conclude();
        response
    }

    /// A claim of a call of this age.
    pub fn claim(&mut self, age_s: usize) {
        let age = age_s.min(self.seen.len() - 1);
        self.seen[age] += 1.0;
        self.claimed[age] += 1.0;
    }

    /// A second went by in which `silent(age)` people of each age did not claim.
    pub fn second(&mut self, silent: impl Fn(usize) -> u32) {
        for age in 0..self.seen.len() {
            self.seen[age] = self.seen[age] * KEEP_A_SECOND + f64::from(silent(age));
            self.claimed[age] *= KEEP_A_SECOND;
        }
        self.conclude();
    }

    /// Chance that a call of this age is still claimed.
    pub fn still(&self, age_s: usize) -> f64 {
        self.still[age_s.min(self.still.len() - 1)]
    }

    /// Chance that a new call is claimed, not less than [`SHARE_MIN`].
    pub fn share(&self) -> f64 {
        self.still(0).max(SHARE_MIN)
    }

    /// Mean seconds from call to claim, of those who claim.
    pub fn delay_s(&self) -> f64 {
        self.delay_s
    }

    fn conclude(&mut self) {
        // From the last age to the first: what is left of ten people after this age, at the end of all ages.
        let hazard = |age: usize| if self.seen[age] > 0.0 { (self.claimed[age] / self.seen[age]).min(1.0) } else { 0.0 };
        let mut left_after = 1.0;
        for age in (0..self.seen.len()).rev() {
            left_after *= 1.0 - hazard(age);
            self.still[age] = 1.0 - left_after;
        }
        let (mut left, mut sum) = (1.0, 0.0);
        for age in 0..self.seen.len() {
            sum += left * hazard(age) * (age as f64 + 0.5);
            left *= 1.0 - hazard(age);
        }
        self.delay_s = if left < 1.0 { sum / (1.0 - left) } else { 0.0 };
    }
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests {
    use super::*;

    /// People who claim after `delay` seconds with a chance, else never; called at a steady rate.
    fn watch(seconds: usize, each: u32, claims_in: f64, delay: usize) -> Response {
        let mut r = Response::new(121);
        let mut silent = vec![0u32; 121];
        for _ in 0..seconds {
            silent.rotate_right(1);
            silent[0] = each;
            let now = (f64::from(silent[delay]) * claims_in).round() as u32;
            (0..now).for_each(|_| r.claim(delay));
            silent[delay] -= now;
            r.second(|age| silent[age]);
        }
        r
    }

    #[test]
    fn it_learns_the_share_and_the_delay() {
        let r = watch(300, 20, 0.7, 4);
        assert!((0.66..0.74).contains(&r.share()), "{}", r.share());
        assert!((4.0..5.5).contains(&r.delay_s()), "{}", r.delay_s());
        assert!(r.still(3) > 0.6 && r.still(6) < 0.1, "after the age at which people come nobody is expected: {}", r.still(6));
    }

    #[test]
    fn silence_is_noticed_long_before_the_window_is_over() {
        let r = watch(20, 20, 0.7, 4);
        assert!(r.still(12) < 0.2, "{}", r.still(12));
        let nobody = watch(60, 20, 0.0, 4);
        assert_eq!(nobody.share(), SHARE_MIN);
        let fresh = Response::new(901);
        assert!(fresh.share() > 0.94 && fresh.still(40) < 0.01 && (1.0..5.0).contains(&fresh.delay_s()), "{}", fresh.delay_s());
    }
}
