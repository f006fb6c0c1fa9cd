//! Public beacons: whether a round is the beacon's own.

use drand_verify::{G2PubkeyRfc, Pubkey as _, derive_randomness};
use tidegate_filters::seats::draw::{
    beacon::{BeaconCheck, BeaconRound, QUICKNET, check_local},
    digest::unhex,
};

/// The key of the League of Entropy's quicknet
/// (chain 52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971, scheme bls-unchained-g1-rfc9380).
const QUICKNET_KEY: &str = "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a";

/// Checks the beacon's own signature, and that the value follows from it.
pub fn check(beacon: &BeaconRound) -> BeaconCheck {
    match check_local(beacon) {
        Some(checked) => checked,
        None if beacon.source == QUICKNET => quicknet(beacon),
        None => BeaconCheck::Unproven(format!("this program cannot check signatures of `{}`", beacon.source)),
    }
}

fn quicknet(beacon: &BeaconRound) -> BeaconCheck {
    let wrong = |what: &str| BeaconCheck::Wrong(format!("round {}: {what}", beacon.round));
    let Some(key) = unhex(QUICKNET_KEY).and_then(|key| G2PubkeyRfc::from_fixed(key).ok()) else {
        return BeaconCheck::Unproven("the built-in key of drand's quicknet cannot be read".into());
    };
    let Some(signature) = unhex::<48>(&beacon.signature) else {
        return wrong("its signature is not 96 lower-case hex digits");
    };
    if !key.verify(beacon.round, b"", &signature).unwrap_or(false) {
        return wrong("its signature is not drand's: the value or the round was substituted");
    }
    if derive_randomness(&signature) != beacon.value {
        return wrong("its value is not the hash of its signature: the value was substituted");
    }
    BeaconCheck::Proven
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tidegate_filters::seats::draw::rehearse::published_round;

    use super::*;

    /// Rounds that drand's quicknet published.
    fn published() -> [BeaconRound; 2] {
        let other = BeaconRound {
            source: QUICKNET.into(),
            round: 657_413,
            value: unhex("fc1873a13f3545aeade8401532ef5519920652eee6b0d2b19ca12643b87b3587").unwrap(),
            signature: "b713718a38ae728dfd477991af2822e08d2f305e47718cef9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b".into(),
        };
        [published_round(), other]
    }

    #[test]
    fn published_rounds_are_proven_and_any_change_is_wrong() {
        let [a, b] = published();
        assert_eq!((check(&a), check(&b)), (BeaconCheck::Proven, BeaconCheck::Proven));
        let wrong = [
            BeaconRound { round: 124, ..a.clone() },
            BeaconRound { value: b.value, ..a.clone() },
            BeaconRound { signature: b.signature.clone(), ..a.clone() },
            BeaconRound { signature: "00".repeat(48), ..a.clone() },
            BeaconRound { signature: "zz".into(), ..a.clone() },
        ];
        for w in wrong {
            assert!(matches!(check(&w), BeaconCheck::Wrong(_)), "{w:?}");
        }
        assert!(matches!(check(&BeaconRound { source: "moon".into(), ..a }), BeaconCheck::Unproven(_)));
    }
}
