//! Load already promised: what passes that are out still cost, and what one more will.

/// Cost of a pass over its life before anything was measured, in average requests.
const LIFE_COST_FIRST: f64 = 15.0;
/// Passes the first guess weighs as much as.
const LIFE_COST_WEIGHT: f64 = 30.0;
/// Mean stay before anything was measured, seconds.
const STAY_FIRST_S: f64 = 60.0;

/// A pass costs `life` units in all, at a rate that fades with its mean stay: `k(a) = life / stay · e^(−a / stay)`.
#[derive(Clone, Debug)]
pub struct LoadModel {
    inside_per_s: f64,
    cost_sum: f64,
    passes_sum: f64,
    stay_s: f64,
}

impl Default for LoadModel {
    fn default() -> Self {
        LoadModel {
            inside_per_s: 0.0,
            cost_sum: LIFE_COST_FIRST * LIFE_COST_WEIGHT,
            passes_sum: LIFE_COST_WEIGHT,
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
        self.cost_sum = self.cost_sum * forget + inside_per_s * span_s;
        self.passes_sum = self.passes_sum * forget + passes;
        if seats_live >= 5 && self.inside_per_s > 0.0 {
            // Little's law: seats = rate of passes · stay; the cost rate of a seat is life / stay.
            let stay = self.life() * f64::from(seats_live) / self.inside_per_s;
            self.stay_s += 0.05 * (stay.clamp(5.0, 1200.0) - self.stay_s);
        }
    }

    /// L(h): cost units a second that passes already out will still cause in `h` seconds.
    pub fn promised(&self, h: f64) -> f64 {
        self.inside_per_s * (-h / self.stay_s).exp()
    }

    /// K(h): cost units a new pass causes in its first `h` seconds.
    pub fn cost(&self, h: f64) -> f64 {
        self.life() * (1.0 - (-h / self.stay_s).exp())
    }

    /// Mean stay, seconds.
    pub fn stay_s(&self) -> f64 {
        self.stay_s
    }

    /// Cost units of a pass over its life.
    pub fn life(&self) -> f64 {
        (self.cost_sum / self.passes_sum.max(1e-9)).max(1.0)
    }

    /// Cost units a second of pass holders now.
    pub fn inside_per_s(&self) -> f64 {
        self.inside_per_s
    }
}
