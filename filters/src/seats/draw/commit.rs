//! What is fixed before the first entry: the rules of the sale and the gate's secret.

use serde::Serialize;

use super::digest::{Hash, hash, lp};

/// RFC 8785 JSON: one spelling for one set of rules.
pub fn canonical_json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json_canonicalizer::to_string(value)
}

/// `H("tidegate/1/rules" ‖ lp(J))`
pub fn rules_hash(rules_json: &str) -> Hash {
    hash([b"tidegate/1/rules".as_slice(), &lp(rules_json.as_bytes())])
}

/// `H("tidegate/1/commit" ‖ lp(sale_id) ‖ rules ‖ k)`; for a chain of windows `k` is its first secret.
pub fn commitment(sale_id: &str, rules: &Hash, secret: &Hash) -> Hash {
    hash([b"tidegate/1/commit".as_slice(), &lp(sale_id.as_bytes()), rules, secret])
}

/// The secret before `secret` in a chain: `k_j = H("tidegate/1/chain" ‖ k_{j+1})`. Whoever knows a secret knows all
/// earlier ones and no later one.
pub fn earlier(secret: &Hash) -> Hash {
    hash([b"tidegate/1/chain".as_slice(), secret])
}

/// The secret `windows` places before `secret` in its chain.
pub fn earlier_by(secret: &Hash, windows: u64) -> Hash {
    (0..windows).fold(*secret, |k, _| earlier(&k))
}

/// The name under which window `window` of a chained sale is drawn: entries, frozen statement, seed. `#` cannot stand in a
/// sale's own name.
pub fn window_id(sale_id: &str, window: u64) -> String {
    format!("{sale_id}#{window}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_json_is_rfc_8785() {
        // The examples of the RFC: order by UTF-16 units, ECMAScript numbers, the shortest escapes.
        let value = json!({"\u{20ac}": "Euro", "\r": "CR", "\u{fb33}": "Dagesh", "1": "One", "\u{1f600}": "Smile", "\u{80}": "C", "\u{f6}": "o"});
        let sorted = "{\"\\r\":\"CR\",\"1\":\"One\",\"\u{80}\":\"C\",\"\u{f6}\":\"o\",\"\u{20ac}\":\"Euro\",\"\u{1f600}\":\"Smile\",\"\u{fb33}\":\"Dagesh\"}";
        assert_eq!(canonical_json(&value).unwrap(), sorted);
        let numbers = json!([333_333_333.333_333_3_f64, 1E30, 4.50, 2e-3, 0.000000000000000000000000001, 1.0, -0.0]);
        assert_eq!(canonical_json(&numbers).unwrap(), "[333333333.3333333,1e+30,4.5,0.002,1e-27,1,0]");
    }

    #[test]
    fn a_chain_opens_backwards_only() {
        let last = [9; 32];
        let first = earlier_by(&last, 1_000);
        assert_eq!(earlier_by(&earlier_by(&last, 400), 600), first);
        assert_ne!(earlier_by(&last, 999), first);
    }
}
