//! Public randomness that nobody knew when the list was frozen: which round counts is a formula, not a choice.

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor},
};

use super::{
    digest::{Hash, as_hex, hash, hex, lp, unhex},
    statement::{Signer, is_signed},
};
use crate::units::Span;

/// Shortest time between freeze and the round that counts, seconds: a list cannot be frozen with the round in sight.
pub const DELAY_S_MIN: u64 = 10;
/// The public beacon of the League of Entropy, every three seconds.
pub const QUICKNET: &str = "drand-quicknet";
/// Start of a local beacon's name; its public key follows in hex.
const LOCAL: &str = "ed25519:";

/// Many make its rounds together, and none of them knows one before its time. Whoever holds the key of a beacon of their own
/// knows all of them.
pub fn is_public(source: &str) -> bool {
    !source.starts_with(LOCAL)
}

/// `beacon: none`, or `{ source: drand-quicknet, delay: 10s }`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BeaconSettings {
    /// No beacon: the operator could have chosen the outcome, and everybody is told.
    #[default]
    None,
    /// Rounds of a beacon.
    #[serde(untagged)]
    Rounds(BeaconRounds),
}

/// By hand, so that an error is about the key that is wrong and not about the choice.
impl<'de> Deserialize<'de> for BeaconSettings {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = BeaconSettings;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`none`, or `{ source: drand-quicknet, delay: 10s }`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text {
                    "none" => Ok(BeaconSettings::None),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                BeaconRounds::deserialize(de::value::MapAccessDeserializer::new(map)).map(BeaconSettings::Rounds)
            }
        }
        d.deserialize_any(Either)
    }
}

/// Which beacon, and how long after the freeze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BeaconRounds {
    /// `drand-quicknet`, or `ed25519:` and the public key of a beacon of your own in hex (one round a second; for tests).
    pub source: String,
    /// The round that counts is the first at or after the freeze and this time; at least 10s.
    #[serde(default = "delay")]
    pub delay: Span,
    /// Where the gate asks for the round: `http://…` of a relay, `/public/ROUND` is added. Left out: an operator brings it
    /// (`POST /v1/beacon`). Its signature is checked either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

fn delay() -> Span {
    Span::secs(DELAY_S_MIN)
}

/// When a beacon's rounds come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Unix seconds of round 1.
    pub genesis: u64,
    /// Seconds between rounds.
    pub period: u64,
}

impl Schedule {
    /// Of a source; `None` when we do not know it.
    pub fn of(source: &str) -> Option<Schedule> {
        match local_key(source) {
            Some(_) => Some(Schedule { genesis: 1, period: 1 }),
            None => (source == QUICKNET).then_some(Schedule { genesis: 1_692_803_367, period: 3 }),
        }
    }

    /// The first round at or after an instant, Unix seconds.
    pub fn round_at(self, unix_s: u64) -> u64 {
        1 + unix_s.saturating_sub(self.genesis).div_ceil(self.period)
    }

    /// When a round comes, Unix seconds.
    pub fn time_of(self, round: u64) -> u64 {
        self.genesis.saturating_add(round.saturating_sub(1).saturating_mul(self.period))
    }
}

/// A published round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeaconRound {
    /// Whose.
    pub source: String,
    /// Which.
    pub round: u64,
    /// The randomness, hex.
    #[serde(with = "as_hex")]
    pub value: Hash,
    /// The beacon's own signature, hex.
    pub signature: String,
}

/// Whether a round is the beacon's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeaconCheck {
    /// Its signature was checked.
    Proven,
    /// It was not, for this reason: the value could be invented.
    Unproven(String),
    /// It is not the beacon's.
    Wrong(String),
}

/// A beacon of one's own: whoever holds its key knows all rounds, so it stands in for a public one in tests only.
#[derive(Clone, Debug)]
pub struct LocalBeacon(Signer);

impl LocalBeacon {
    /// From its secret.
    pub fn new(secret: &[u8; 32]) -> Self {
        LocalBeacon(Signer::new(secret))
    }

    /// Its name, as in the policy.
    pub fn source(&self) -> String {
        format!("{LOCAL}{}", hex(&self.0.public_key()))
    }

    /// Signs a round.
    pub fn round(&self, round: u64) -> BeaconRound {
        let signature = self.0.sign(&local_message(round));
        BeaconRound { source: self.source(), round, value: local_value(&signature), signature: hex(&signature) }
    }
}

/// Checks a round of a local beacon; `None` when the source is none.
pub fn check_local(beacon: &BeaconRound) -> Option<BeaconCheck> {
    let key = local_key(&beacon.source)?;
    let Some(signature) = unhex::<64>(&beacon.signature) else {
        return Some(BeaconCheck::Wrong("its signature is not 128 lower-case hex digits".into()));
    };
    if !is_signed(&key, &local_message(beacon.round), &signature) {
        return Some(BeaconCheck::Wrong(format!("its signature is not the beacon's over round {}", beacon.round)));
    }
    let right = local_value(&signature) == beacon.value;
    Some(if right { BeaconCheck::Proven } else { BeaconCheck::Wrong("its value does not follow from its signature".into()) })
}

fn local_key(source: &str) -> Option<[u8; 32]> {
    unhex(source.strip_prefix(LOCAL)?)
}

fn local_message(round: u64) -> Vec<u8> {
    [b"tidegate/1/local-beacon".as_slice(), &round.to_be_bytes()].concat()
}

fn local_value(signature: &[u8; 64]) -> Hash {
    hash([b"tidegate/1/local-beacon-value".as_slice(), &lp(signature)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_round_is_the_first_at_or_after() {
        let quicknet = Schedule::of(QUICKNET).unwrap();
        assert_eq!(quicknet.round_at(0), 1);
        assert_eq!(quicknet.round_at(quicknet.genesis), 1);
        assert_eq!(quicknet.round_at(quicknet.genesis + 1), 2);
        assert_eq!(quicknet.round_at(quicknet.genesis + 3), 2);
        for t in quicknet.genesis..quicknet.genesis + 50 {
            let round = quicknet.round_at(t);
            assert!(quicknet.time_of(round) >= t && quicknet.time_of(round - 1) < t || round == 1);
        }
        let local = Schedule::of(&LocalBeacon::new(&[1; 32]).source()).unwrap();
        assert_eq!((local.round_at(1_000), local.time_of(1_000)), (1_000, 1_000));
        assert_eq!(Schedule::of("ed25519:abc"), None);
    }

    #[test]
    fn a_round_of_another_key_number_or_value_is_wrong() {
        let round = LocalBeacon::new(&[1; 32]).round(7);
        assert_eq!(check_local(&round), Some(BeaconCheck::Proven));
        let other = LocalBeacon::new(&[2; 32]).round(7);
        let wrong = [
            BeaconRound { round: 8, ..round.clone() },
            BeaconRound { value: [0; 32], ..round.clone() },
            BeaconRound { source: other.source.clone(), ..round.clone() },
            BeaconRound { signature: other.signature.clone(), ..round.clone() },
            BeaconRound { signature: "x".into(), ..round.clone() },
        ];
        for w in wrong {
            assert!(matches!(check_local(&w), Some(BeaconCheck::Wrong(_))), "{w:?}");
        }
        assert_eq!(check_local(&BeaconRound { source: QUICKNET.into(), ..round }), None);
    }

    #[test]
    fn settings_read_as_an_operator_writes_them() {
        let read = |s: &str| serde_json::from_str::<BeaconSettings>(s);
        assert_eq!(read("\"none\"").unwrap(), BeaconSettings::None);
        let rounds = read(r#"{"source":"drand-quicknet","delay":"15s"}"#).unwrap();
        assert_eq!(rounds, BeaconSettings::Rounds(BeaconRounds { source: QUICKNET.into(), delay: Span::secs(15), from: None }));
        assert!(read(r#"{"source":"drand-quicknet","dely":"15s"}"#).is_err());
    }
}
