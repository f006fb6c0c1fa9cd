//! Load already promised: what passes that are out still cost, and what one more will.

/// Cost of a pass over its life before anything was measured, in average requests.
const LIFE_COST_FIRST: f64 = 15.0;
/// Passes the first guess weighs as much as.
const LIFE_COST_WEIGHT: f64 = 10.0;
/// Mean life of a seat before anything was measured, seconds.
const STAY_FIRST_S: f64 = 60.0;

/// Times, in seconds, over which what a pass does may fade; all are tried at the same time, and the one that explains best what
/// came is believed. A seat says little about it: it lives on for the policy's idle time after its visitor has gone.
const FADES_S: [f64; 8] = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Before anything was measured.
const FADE_FIRST: usize = 5;
/// Another one is believed once its squared error is smaller by this share.
const BETTER_BY: f64 = 0.05;

/// A pass costs `life` units in all, at a rate that fades: `k(a) = life / fade · e^(−a / fade)`.
#[derive(Clone, Debug)]
pub struct LoadModel {
    inside_per_s: f64,
    /// Squares of what passes cost each second.
    cost_squares: f64,
    cost_sum: f64,
    fades: [Fade; FADES_S.len()],
    believed: usize,
    stay_s: f64,
}

/// What was seen, if passes fade over one of [`FADES_S`].
#[derive(Clone, Copy, Debug, Default)]
struct Fade {
    /// What passes that are out have left of their lives, in lives.
    left: f64,
    /// Lives used up.
    used: f64,
    /// Products with the cost, squares.
    used_cost: f64,
    used_squares: f64,
}

impl Fade {
    fn second(&mut self, fade_s: f64, passes: f64, cost: f64, span_s: f64, forget: f64) {
        let rest = (-span_s / fade_s).exp();
        // Who came did so in the middle of it.
        let used = self.left * (1.0 - rest) + passes * (1.0 - rest.sqrt());
        self.left = (self.left + passes - used).max(0.0);
        self.used = self.used * forget + used;
        self.used_cost = self.used_cost * forget + used * cost;
        self.used_squares = self.used_squares * forget + used * used;
    }

    /// Of the squared costs, what a life of any cost explains.
    fn explains(&self) -> f64 {
        if self.used_squares > 0.0 { self.used_cost * self.used_cost / self.used_squares } else { 0.0 }
    }
}

impl Default for LoadModel {
    fn default() -> Self {
        LoadModel {
            inside_per_s: 0.0,
            cost_squares: 0.0,
            cost_sum: LIFE_COST_FIRST * LIFE_COST_WEIGHT,
            fades: [Fade { used: LIFE_COST_WEIGHT, ..Fade::default() }; FADES_S.len()],
            believed: FADE_FIRST,
            stay_s: STAY_FIRST_S,
        }
    }
}

impl LoadModel {
    /// Learns from a second: cost units a second of pass holders, live seats, passes given in it.
    pub fn observe(&mut self, inside_per_s: f64, seats_live: u32, passes: f64, span_s: f64) {
        let keep = 0.7f64.powf(span_s);
        self.inside_per_s = self.inside_per_s * keep + inside_per_s * (1.0 - keep);
        // Forgets over about ten minutes, so that the crowd of another day does not rule this one.
        let forget = 0.9985f64.powf(span_s);
        let cost = inside_per_s * span_s;
        self.cost_sum = self.cost_sum * forget + cost;
        self.cost_squares = self.cost_squares * forget + cost * cost;
        for (fade, fade_s) in self.fades.iter_mut().zip(FADES_S) {
            fade.second(fade_s, passes, cost, span_s, forget);
        }
        let error = |i: usize| self.cost_squares - self.fades[i].explains();
        let best = (0..FADES_S.len()).fold(self.believed, |best, i| if error(i) < error(best) { i } else { best });
        if error(best) < (1.0 - BETTER_BY) * error(self.believed) {
            self.believed = best;
        }
        if seats_live >= 5 && self.inside_per_s > 0.0 {
            // Little's law: seats = rate of passes · stay; the cost rate of a seat is life / stay.
            let stay = self.life() * f64::from(seats_live) / self.inside_per_s;
            self.stay_s += 0.05 * (stay.clamp(5.0, 1200.0) - self.stay_s);
        }
    }

    /// The cost unit became another: what was so many is that many times as many now.
    pub fn rescale(&mut self, times: f64) {
        (self.inside_per_s, self.cost_sum) = (self.inside_per_s * times, self.cost_sum * times);
        self.cost_squares *= times * times;
        self.fades.iter_mut().for_each(|f| f.used_cost *= times);
    }

    /// L(h): cost units a second that passes already out will still cause in `h` seconds: what they have left, and not less than
    /// what they cause now.
    pub fn promised(&self, h: f64) -> f64 {
        let left = self.life() * self.fades[self.believed].left / self.fade_s();
        self.inside_per_s.max(left) * (-h / self.fade_s()).exp()
    }

    /// All of it in the next `h` seconds: the integral of L.
    pub fn promised_within(&self, h: f64) -> f64 {
        self.fade_s() * (self.promised(0.0) - self.promised(h))
    }

    /// K(h): cost units a new pass causes in its first `h` seconds.
    pub fn cost(&self, h: f64) -> f64 {
        self.life() * (1.0 - (-h / self.fade_s()).exp())
    }

    /// What passes that are given at a steady rate of one a second cost in `h` seconds: the integral of K.
    pub fn cost_within(&self, h: f64) -> f64 {
        self.life() * h - self.fade_s() * self.cost(h)
    }

    /// Seconds over which what a pass does fades.
    pub fn fade_s(&self) -> f64 {
        FADES_S[self.believed]
    }

    /// Mean life of a seat, seconds.
    pub fn stay_s(&self) -> f64 {
        self.stay_s
    }

    /// Cost units of a pass over its life: by what was used up of lives, for those who came just now will cost the rest later.
    pub fn life(&self) -> f64 {
        (self.cost_sum / self.fades[self.believed].used.max(1e-9)).max(1.0)
    }

    /// Cost units a second of pass holders now.
    pub fn inside_per_s(&self) -> f64 {
        self.inside_per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes that cost 8 each and fade over `fade_s`, given as `passes` says; what the model believes after each second.
    fn learnt(fade_s: f64, passes: impl Fn(u32) -> f64, seconds: u32) -> Vec<(f64, LoadModel)> {
        let (mut model, mut left) = (LoadModel::default(), 0.0);
        let second = |i: u32| {
            let given = passes(i);
            let rest = (-1.0 / fade_s).exp();
            let used = left * (1.0 - rest) + given * (1.0 - rest.sqrt());
            left += given - used;
            model.observe(8.0 * used, 50, given, 1.0);
            (8.0 * left / fade_s, model.clone())
        };
        (0..seconds).map(second).collect()
    }

    fn waves(i: u32) -> f64 {
        20.0 + 15.0 * f64::from(i % 7) / 6.0
    }

    #[test]
    fn how_soon_passes_fade_is_found_out() {
        for fade_s in [2.0, 8.0, 64.0] {
            let model = &learnt(fade_s, waves, 200)[199].1;
            assert_eq!(model.fade_s(), fade_s);
            assert!((model.life() - 8.0).abs() < 0.8, "{}", model.life());
            assert!((model.promised(fade_s) / model.promised(0.0) - (-1.0f64).exp()).abs() < 1e-9);
            assert!((model.cost_within(1e4) - model.life() * (1e4 - fade_s)).abs() < 1e-3);
        }
        assert_eq!(learnt(4.0, |_| 0.0, 100)[99].1.fade_s(), FADES_S[FADE_FIRST], "nobody came");
    }

    /// From one second to the next four times as many get a pass. What they will cost is known at once, not once they have cost
    /// it; and they are not thought to cost less because they have not yet.
    #[test]
    fn who_came_just_now_is_promised_load() {
        let seconds = learnt(4.0, |i| waves(i) * if i < 20 { 1.0 } else { 4.0 }, 23);
        for (i, (due, model)) in seconds.iter().enumerate().skip(19) {
            assert!((model.promised(0.0) / due - 1.0).abs() < 0.15, "second {i}: {} of {due}", model.promised(0.0));
            assert!((model.life() - 8.0).abs() < 0.8, "second {i}: {}", model.life());
        }
    }

    #[test]
    fn another_unit_is_the_same_load() {
        let mut model = learnt(4.0, waves, 100)[99].1.clone();
        let (life, promised) = (model.life(), model.promised(2.0));
        let explained = |m: &LoadModel| m.fades[1].explains() / m.cost_squares;
        let before = explained(&model);
        model.rescale(3.0);
        assert!((explained(&model) - before).abs() < 1e-9);
        assert!((model.life() / life - 3.0).abs() < 1e-9 && (model.promised(2.0) / promised - 3.0).abs() < 1e-9);
    }
}
