//! The files of `good_bots`: networks, as search engines publish them, and keys.

use std::{
    fs::{self, File},
    io::Read as _,
    net::IpAddr,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::VerifyingKey;
use ipnet::IpNet;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tidegate_filters::rule::{
    address::Networks,
    good_bots::{are_too_many, is_too_large},
};

/// Largest file.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;
/// What some editors write before a text.
const BOM: char = '\u{feff}';
/// Most networks of a file.
const NETWORKS_MAX: usize = 20_000;
/// Longest network in words: more than an IPv6 address and its prefix can have.
const NETWORK_CHARS_MAX: usize = 64;
/// Most keys of a file.
const KEYS_MAX: usize = 64;

/// Addresses, IPv4 as mapped IPv6, in order and apart.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    pub(super) fn new(networks: &[IpNet]) -> Self {
        let mut all: Vec<_> = networks.iter().map(|n| (number(n.network()), number(n.broadcast()))).collect();
        all.sort_unstable();
        let mut apart: Vec<(u128, u128)> = Vec::with_capacity(all.len());
        for (from, to) in all {
            match apart.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => apart.push((from, to)),
            }
        }
        Ranges(apart)
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        let n = number(ip);
        let behind = self.0.partition_point(|(from, _)| *from <= n);
        behind.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|(_, to)| n <= *to)
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped().into(),
        IpAddr::V6(a) => a.into(),
    }
}

/// The text of a file of a policy.
pub(super) fn read(file: &str) -> Result<String, String> {
    let mut text = String::new();
    let is_file = fs::metadata(file).map(|m| m.is_file()).map_err(|e| format!("{file} cannot be read: {e}"))?;
    if !is_file {
        return Err(format!("{file} is not a file"));
    }
    let opened = File::open(file).and_then(|f| f.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match opened {
        Ok(n) if n as u64 <= FILE_BYTES_MAX => Ok(text),
        Ok(_) => Err(format!("{file} is larger than 1 MiB: is it the right file?")),
        Err(e) => Err(format!("{file} cannot be read: {e}")),
    }
}

/// Networks: one a line, `#` before a remark; or JSON with `prefixes`.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let text = text.trim_start_matches(BOM);
    let found: Vec<IpNet> = match text.trim_start().starts_with('{') {
        true => published(text)?,
        false => {
            let lines = text.lines().enumerate().map(|(i, l)| (i + 1, l.split('#').next().unwrap_or_default().trim()));
            let network = |(i, l): (usize, &str)| network(l).map_err(|why| format!("line {i}: {why}"));
            lines.filter(|(_, l)| !l.is_empty()).map(network).collect::<Result<_, _>>()?
        }
    };
    match found.len() {
        0 => Err("it holds no network: it is a list of networks, one a line, or JSON with `prefixes`".into()),
        n if n > NETWORKS_MAX => Err(format!("{n} networks; at most {NETWORKS_MAX}")),
        _ if are_too_many(&found) => Err("together they are a large part of the internet".into()),
        _ => Ok(found),
    }
}

fn published(text: &str) -> Result<Vec<IpNet>, String> {
    let json: Value = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?;
    let prefixes = json["prefixes"].as_array().ok_or("it has no `prefixes`")?;
    let one = |(i, p): (usize, &Value)| {
        let text = p["ipv4Prefix"].as_str().or_else(|| p["ipv6Prefix"].as_str());
        let text = text.ok_or_else(|| format!("prefixes[{i}] has neither ipv4Prefix nor ipv6Prefix"))?;
        network(text).map_err(|why| format!("prefixes[{i}]: {why}"))
    };
    prefixes.iter().enumerate().map(one).collect()
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = match text.chars().count() {
        0..=NETWORK_CHARS_MAX => text.parse::<Networks>()?.0,
        n => return Err(format!("{n} characters are no network")),
    };
    match is_too_large(network) {
        true => Err(format!("{network} is a large part of the internet: whoever says the name there would be welcome")),
        false => Ok(network),
    }
}

/// Keys by their thumbprint (RFC 7638), one at least; those that are not Ed25519 are passed over.
pub(super) fn keys(text: &str) -> Result<Vec<(String, VerifyingKey)>, String> {
    match directory(text)? {
        none if none.is_empty() => Err("it holds no Ed25519 key (`kty` OKP, `crv` Ed25519)".into()),
        found => Ok(found),
    }
}

/// The keys of a directory. Whoever publishes it takes its keys back by leaving them out: there may be none.
pub(super) fn directory(text: &str) -> Result<Vec<(String, VerifyingKey)>, String> {
    let json: Value = serde_json::from_str(text.trim_start_matches(BOM)).map_err(|e| format!("it is no JSON: {e}"))?;
    let list = json["keys"].as_array().ok_or("it has no `keys`: it is a JSON Web Key Set")?;
    let mut found = Vec::new();
    for (i, key) in list.iter().enumerate().filter(|(_, k)| k["kty"] == "OKP" && k["crv"] == "Ed25519") {
        if !key["d"].is_null() {
            return Err(format!("keys[{i}] holds a private key: remove `d`, the gate needs the public half alone"));
        }
        let wrong = || format!("keys[{i}].x is no Ed25519 public key");
        let x = key["x"].as_str().ok_or_else(wrong)?;
        let bytes = URL_SAFE_NO_PAD.decode(x).ok().and_then(|b| <[u8; 32]>::try_from(b).ok()).ok_or_else(wrong)?;
        let public = VerifyingKey::from_bytes(&bytes).ok().filter(|k| !k.is_weak()).ok_or_else(wrong)?;
        found.push((thumbprint(x), public));
    }
    match found.len() {
        n if n > KEYS_MAX => Err(format!("{n} keys; at most {KEYS_MAX}")),
        _ => Ok(found),
    }
}

fn thumbprint(x: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_found_whatever_the_order_and_the_overlap() {
        let networks: Vec<IpNet> =
            ["198.51.100.64/26", "198.51.100.0/24", "192.0.2.0/25", "192.0.2.0/24", "2001:db8::/32", "203.0.113.9/32"]
                .iter()
                .map(|n| n.parse().unwrap())
                .collect();
        let ranges = Ranges::new(&networks);
        for (ip, is) in [
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("198.51.100.7", true),
            ("198.51.100.200", true),
            ("203.0.113.8", false),
            ("203.0.113.9", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("0.0.0.0", false),
            ("::1", false),
        ] {
            assert_eq!(ranges.contains(ip.parse().unwrap()), is, "{ip}");
        }
        assert!(!Ranges::default().contains(IpAddr::from([1, 2, 3, 4])));
    }

    #[test]
    fn networks_come_as_lines_and_as_search_engines_publish_them() {
        assert_eq!(networks("# ours\n192.0.2.0/24 # all\n\n2001:db8::1\n").unwrap().len(), 2);
        let json = r#"{"creationTime":"x","prefixes":[{"ipv4Prefix":"192.0.2.0/24"},{"ipv6Prefix":"2001:db8::/32"}]}"#;
        assert_eq!(networks(json).unwrap().len(), 2);
        for (text, why) in [
            ("192.0.2.0/24\nexample.com\n", "line 2"),
            ("192.0.2.1/24", "bits set"),
            ("# none\n", "no network"),
            ("{\"prefixes\":[{}]}", "neither"),
            ("{\"prefixes\":[{\"ipv4Prefix\":\"0.0.0.0/0\"}]}", "large part of the internet"),
            (&"x".repeat(100_000), "line 1: 100000 characters are no network"),
            ("::ffff:0:0/96", "large part of the internet"),
            ("::ffff:128.0.0.0/97", "large part of the internet"),
            (&(1..=17).map(|n| format!("{n}.0.0.0/8\n")).collect::<String>(), "together they are"),
            ("{}", "no `prefixes`"),
            ("{", "no JSON"),
        ] {
            assert!(networks(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn keys_have_the_thumbprint_of_rfc_7638_and_private_ones_are_refused() {
        // RFC 9421 B.1.4 and RFC 8037 A.3.
        let x = ["JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"];
        let key = |x: &str| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#);
        let set = |all: &str| format!(r#"{{"keys":[{all}]}}"#);
        let found = keys(&set(&format!(r#"{{"kty":"RSA"}},{},{}"#, key(x[0]), key(x[1])))).unwrap();
        let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"]);
        for (text, why) in [
            (set(&key(x[0]).replace("\"kty\"", "\"d\":\"x\",\"kty\"")), "private"),
            (set(&key("AAAA")), "no Ed25519 public key"),
            (set(&key(&"A".repeat(43))), "no Ed25519 public key"),
            (set(r#"{"kty":"RSA"}"#), "no Ed25519 key"),
            ("[]".to_owned(), "no `keys`"),
        ] {
            assert!(keys(&text).unwrap_err().contains(why), "{text}");
        }
    }
}
