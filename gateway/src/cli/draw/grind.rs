//! `tidegate draw grind`

use std::time::Instant;

use clap::Args;
use tidegate_filters::seats::draw::grind::grind;

use super::{
    super::{Failure, Outcome, fail, say},
    files::Working,
};

/// Arguments of `draw grind`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Grind {
    /// How many entries the invented sale has
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
    entries: u32,
    /// The sale follows from this number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Among how many first places the friend shall be
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    among: u32,
    /// Names tried before giving up
    #[arg(long, default_value_t = 10_000_000)]
    tries: u64,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  tidegate draw grind                                        a friend among the first 50 of a million
  tidegate draw grind --entries 1000 --among 1 --json

The operator of the invented sale knows its secret and tries names for one entry. Without a beacon that chooses the outcome;
with one the list is frozen before the value is known, and the chosen name is worth as much as any other.";

impl Grind {
    pub(super) fn run(self) -> Outcome {
        let working = Working::on("trying names");
        let start = Instant::now();
        let ground = grind(self.entries as usize, self.seed, self.among, self.tries);
        let took = start.elapsed().as_secs_f64();
        drop(working);
        let missed =
            || fail(Failure::Check, &format!("{} names did not suffice; say more --tries or a larger --among", self.tries));
        let g = ground.ok_or_else(missed)?;
        if self.json {
            return say(&serde_json::to_string(&g).map_err(|e| fail(Failure::Runtime, &e.to_string()))?);
        }
        let mut places = g.places_with_beacon.clone();
        places.sort_unstable();
        let (first, middle) = (places.first().copied().unwrap_or(0), places.get(places.len() / 2).copied().unwrap_or(0));
        say(&format!(
            "without a beacon: {} names tried, entry {} now has place {} of {}: the operator chose ({took:.1} s with the proof below)\n\
             with a beacon: the same name against {} values published after the freeze: best place {}, median {}",
            g.tries,
            g.index,
            g.place_without_beacon + 1,
            self.entries,
            places.len(),
            first + 1,
            middle + 1
        ))
    }
}
