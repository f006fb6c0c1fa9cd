//! Scenario files: who comes, when, and how patient they are.

use serde::{Deserialize, Serialize};
use tidegate_filters::units::Span;

/// Most visitors of a scenario: each is a task and a socket.
pub const VISITORS_MAX: u32 = 50_000;
/// Longest scenario.
pub const ENDS_AT_MAX: Span = Span::secs(3_600);

/// Between freeze and opening pages finish loading and a round of public randomness has to come.
pub const FREEZE_BEFORE_MIN: Span = Span::secs(18);

const BUILTIN: [(&str, &str); 3] = [
    ("drop-day", include_str!("../../scenarios/drop-day.yaml")),
    ("calm-day", include_str!("../../scenarios/calm-day.yaml")),
    ("capture", include_str!("../../scenarios/capture.yaml")),
];

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// When the sale opens, from the start of the run. The shop knows nothing of it; the gate's policy does.
    pub opens_at: Span,
    /// When the list of a draw is frozen, from the start of the run: who comes before is in the drum. Left out: places go
    /// to whoever comes first.
    #[serde(default)]
    pub freezes_at: Option<Span>,
    /// When whoever is still there is sent home.
    pub ends_at: Span,
    /// People come from all over the range of addresses instead of side by side.
    #[serde(default)]
    pub spread: bool,
    /// Shoppers.
    pub people: People,
    /// Bots, one squad per entry.
    #[serde(default)]
    pub bots: Vec<Bots>,
}

/// Shoppers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// How many.
    pub count: u32,
    /// When they come.
    pub arrivals: Vec<Wave>,
    /// Time between a page and the next click.
    pub think: LogNormal,
    /// They reload a page that is not there after this long; the shop works on for nobody.
    pub patience_page: Span,
    /// They leave a waiting room after this long.
    pub patience_waiting: Span,
    /// They leave after this many failed pages in a row.
    pub retries_max: u32,
    /// Share that only looks, in percent.
    #[serde(default)]
    pub browse_only_percent: u8,
    /// Share whose browser runs no scripts, in percent: their waiting page reloads itself.
    #[serde(default)]
    pub no_script_percent: u8,
    /// Share that reloads the waiting page twice as often as it was told, in percent.
    #[serde(default)]
    pub refreshers_percent: u8,
}

/// A part of the people, spread evenly over a span.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// Relative to the other waves.
    pub share: f64,
    /// First arrival.
    pub from: Span,
    /// Last arrival.
    pub to: Span,
}

/// A time that varies as human times do: `exp(N(ln median, sigma))`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogNormal {
    /// Half are shorter.
    pub median: Span,
    /// Spread of the logarithm.
    pub sigma: f64,
}

/// A squad of bots of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bots {
    /// A script with the headers of its library, without cookies, that posts checkouts.
    PlainScript(Squad),
    /// A browser's headers, cookies kept, fixed cadence, no assets; asks for its place as often as it likes.
    HeaderCopier(Squad),
    /// As the header copier, but polite in the room and from another address each time.
    ManyAddresses(Squad),
    /// A browser's headers, long regular pauses, polite.
    SlowAndLow(Squad),
    /// A browser's headers, pauses that vary as people's do, polite.
    JitteredMimic(Squad),
}

impl Bots {
    /// The numbers of the squad.
    pub fn squad(&self) -> &Squad {
        match self {
            Bots::PlainScript(s)
            | Bots::HeaderCopier(s)
            | Bots::ManyAddresses(s)
            | Bots::SlowAndLow(s)
            | Bots::JitteredMimic(s) => s,
        }
    }
}

/// The numbers of a squad.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Squad {
    /// How many.
    pub count: u32,
    /// A request this often.
    pub every: Span,
    /// When they start.
    pub from: Span,
    /// How long one waits for an answer.
    #[serde(default = "patience")]
    pub patience: Span,
    /// Units one tries to buy.
    #[serde(default = "units_max")]
    pub units_max: u32,
    /// Addresses one uses in turn.
    #[serde(default = "addresses")]
    pub addresses: u32,
}

fn patience() -> Span {
    Span::secs(10)
}
fn units_max() -> u32 {
    20
}
fn addresses() -> u32 {
    1
}

/// A scenario that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file is not there.
    #[error("{path}: {source}; built-in scenarios are drop-day and calm-day")]
    Read {
        /// Its path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a scenario.
    #[error("{path}: {message}")]
    Parse {
        /// Its path.
        path: String,
        /// Where and what, from the parser.
        message: String,
    },
    /// A number is out of range.
    #[error("{path}: {message}")]
    Range {
        /// Its path.
        path: String,
        /// The key, what is wrong with it, what to write instead.
        message: String,
    },
}

impl Scenario {
    /// A scenario that is part of the program.
    pub fn builtin(name: &str) -> Option<Scenario> {
        let (_, text) = BUILTIN.iter().find(|(n, _)| *n == name)?;
        Scenario::parse(name, text).ok()
    }

    /// A built-in scenario by name, else a file.
    pub fn load(name_or_path: &str) -> Result<Scenario, ScenarioError> {
        if let Some((name, text)) = BUILTIN.iter().find(|(n, _)| *n == name_or_path) {
            return Scenario::parse(name, text);
        }
        let text =
            std::fs::read_to_string(name_or_path).map_err(|source| ScenarioError::Read { path: name_or_path.into(), source })?;
        Scenario::parse(name_or_path, &text)
    }

    /// Parses and checks.
    pub fn parse(path: &str, text: &str) -> Result<Scenario, ScenarioError> {
        let scenario: Scenario =
            serde_saphyr::from_str(text).map_err(|e| ScenarioError::Parse { path: path.into(), message: e.to_string() })?;
        scenario.check().map_err(|message| ScenarioError::Range { path: path.into(), message })?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        let visitors = self.bots.iter().map(|b| b.squad().count).fold(self.people.count, u32::saturating_add);
        if visitors == 0 || visitors > VISITORS_MAX {
            return Err(format!("{visitors} visitors; write 1 to {VISITORS_MAX}"));
        }
        if self.ends_at <= self.opens_at || self.ends_at > ENDS_AT_MAX {
            return Err(format!("ends_at must be after opens_at and at most {ENDS_AT_MAX}"));
        }
        let early_ms = |freeze: Span| self.opens_at.ms().checked_sub(freeze.ms());
        if self.freezes_at.is_some_and(|f| f.ms() == 0 || early_ms(f).is_none_or(|e| e < FREEZE_BEFORE_MIN.ms())) {
            return Err(format!(
                "freezes_at must be above 0 and at least {FREEZE_BEFORE_MIN} before opens_at: places are drawn between"
            ));
        }
        if self.people.count > 0 && self.people.arrivals.is_empty() {
            return Err("people.arrivals: write at least one wave: - { share: 1, from: 0s, to: 10s }".into());
        }
        for w in &self.people.arrivals {
            if !(w.share.is_finite() && w.share > 0.0) || w.from > w.to {
                return Err("people.arrivals: share must be above 0, and from not after to".into());
            }
        }
        if !(0.0..=3.0).contains(&self.people.think.sigma) {
            return Err("people.think.sigma must be between 0 and 3".into());
        }
        let percents = [self.people.browse_only_percent, self.people.no_script_percent, self.people.refreshers_percent];
        if percents.iter().any(|p| *p > 100) {
            return Err("people: percents must be at most 100".into());
        }
        if self.bots.iter().any(|b| b.squad().every.ms() == 0) {
            return Err("bots: every must be at least 1ms".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_builtin_scenarios_are_valid() {
        for (name, text) in BUILTIN {
            let scenario = Scenario::parse(name, text).unwrap();
            assert_eq!(scenario.name, name);
        }
    }

    #[test]
    fn nonsense_is_refused_with_advice() {
        let good = BUILTIN[0].1;
        let bad = |from: &str, to: &str| Scenario::parse("x.yaml", &good.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(bad("count:", "cuont:").contains("cuont"));
        assert!(bad("opens_at: ", "opens_at: 9000").contains("x.yaml"));
        assert!(bad("freezes_at: ", "freezes_at: 1").contains("freezes_at"));
        assert!(bad("sigma: ", "sigma: -1").contains("sigma"));
        assert!(Scenario::load("no-such.yaml").unwrap_err().to_string().contains("drop-day"));
    }
}
