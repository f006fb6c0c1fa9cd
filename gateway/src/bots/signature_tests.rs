//! Against the vectors of RFC 9421, of draft-meunier-web-bot-auth-architecture and of its reference implementation, and
//! whatever was changed in them.
#![allow(clippy::unwrap_used)]

use super::*;

const ID: &str = "poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U";
const CREATED_S: u64 = 1_735_689_600;

fn keys() -> HashMap<String, (VerifyingKey, usize)> {
    let set = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs"}]}"#;
    crate::bots::lists::keys(set).unwrap().into_iter().map(|(id, key)| (id, (key, 7))).collect()
}

/// A signed request of the drafts: label, agent, rest of the parameters, signature.
struct Vector {
    label: &'static str,
    agent: Option<&'static str>,
    covers: &'static str,
    expires: u64,
    nonce: &'static str,
    signature: &'static str,
}

const VECTORS: [Vector; 4] = [
    Vector {
        label: "sig1",
        agent: None,
        covers: r#""@authority""#,
        expires: 4_889_289_600,
        nonce: "zIW8+cdmA3vdYagbxojpONwa/l0EKJ/O3/wD486VvsQjO/RxPaSt6ZxvQaMcQzNnqKN/mQ6hpGiFro2L2qkz5A==",
        signature: "QKN4fTdIYfh82fvoZCQiQA1weuozfCS/Led2zTMbewMMqH8PI2Wsy/5c4ao6B6D09nraNQdBNOADg8aM1MqfCg==",
    },
    Vector {
        label: "sig2",
        agent: Some(r#"agent2="https://signature-agent.test""#),
        covers: r#""@authority" "signature-agent";key="agent2""#,
        expires: 4_889_289_600,
        nonce: "n9p433xm+NJ3ph3upfBIGmsuwHw387YV7Q/F+6BSpGCVjYCqQw6rznNA8PVVLySrAWsv0hQtFioQb6E1YsauiA==",
        signature: "RdNFx5Bj6au3YgAMQL/RzmUlZE8QZLIaXGRpw985hWnwPfMxT228NMk6ehRS1PSl4e8PhbNZACSanGdhEwYCCg==",
    },
    Vector {
        label: "sig1",
        agent: None,
        covers: r#""@authority""#,
        expires: 4_889_289_600,
        nonce: "g0iqFa9e1ffijlyOScDkXpfSmTbYpRNSGPJrQ1It20ahwgzB3jOUcdgLgFxUg7RMtW4V8IILaKKtA+YuSyIgJQ==",
        signature: "FFASViSdcgsyaqqYiCnkHreeZzbNKcTzDvZC5uVlP/dn9IbWj8j0o4wKFTH3rBnUiSUBduwm1Gp5VlIPCp01Ag==",
    },
    Vector {
        label: "sig2",
        agent: Some(r#""https://signature-agent.test""#),
        covers: r#""@authority" "signature-agent""#,
        expires: 1_735_693_200,
        nonce: "e8N7S2MFd/qrd6T2R3tdfAuuANngKI7LFtKYI/vowzk4lAZYadIX6wW25MwG7DCT9RUKAJ0qVkU0mEeLElW1qg==",
        signature: "jdq0SqOwHdyHr9+r5jw3iYZH6aNGKijYp/EstF4RQTQdi5N5YYKrD+mCT1HA1nZDsi6nJKuHxUi/5Syp3rLWBA==",
    },
];

impl Vector {
    fn headers(&self) -> Vec<(&'static str, String)> {
        let Vector { label, covers, expires, nonce, signature, .. } = self;
        let input = format!(
            r#"{label}=({covers});created={CREATED_S};keyid="{ID}";alg="ed25519";expires={expires};nonce="{nonce}";tag="web-bot-auth""#
        );
        let mut all = vec![("signature-input", input), ("signature", format!("{label}=:{signature}:"))];
        all.extend(self.agent.map(|a| ("signature-agent", a.to_owned())));
        all
    }
}

fn ask(headers: &[(&'static str, String)], authority: &str, at_s: u64, nonces: &Remembered<()>) -> Option<Result<usize, Fault>> {
    let fields = Fields::new(headers.iter().map(|(n, v)| (*n, v.as_bytes())));
    let request = Signed { fields: &fields, method: "GET", authority, https: true, path: "/path/to/resource", query: None };
    let now = Now::at(CREATED_S * 1_000, (at_s - CREATED_S) * 1_000);
    verify(&keys(), nonces, &ASecond::default(), &request, now)
}

fn once(headers: &[(&'static str, String)]) -> Option<Result<usize, Fault>> {
    ask(headers, "example.com", CREATED_S + 60, &Remembered::new(64))
}

#[test]
fn public_vectors_are_good_once() {
    for (i, vector) in VECTORS.iter().enumerate() {
        let (headers, nonces) = (vector.headers(), Remembered::new(64));
        for authority in ["other.example", "example.com.", "example.com:8443"] {
            assert_eq!(ask(&headers, authority, CREATED_S + 60, &nonces), Some(Err(Fault::Wrong)), "{i}: {authority}");
        }
        assert_eq!(ask(&headers, "EXAMPLE.com:443", CREATED_S + 60, &nonces), Some(Ok(7)), "{i}");
        assert_eq!(ask(&headers, "example.com", CREATED_S + 61, &nonces), Some(Err(Fault::Replayed)), "{i}");
        assert_eq!(ask(&headers, "example.com", CREATED_S, &Remembered::new(64)), Some(Ok(7)), "{i}");
        let over = CREATED_S + AGE_S_MAX as u64;
        assert_eq!(ask(&headers, "example.com", over, &Remembered::new(64)), Some(Err(Fault::Expired)), "{i}");
    }
}

#[test]
fn what_was_changed_is_not_good() {
    let plain = VECTORS[0].headers();
    let changed = |at: usize, from: &str, to: &str| {
        let mut headers = VECTORS[1].headers();
        assert!(headers[at].1.contains(from), "{from}");
        headers[at].1 = headers[at].1.replacen(from, to, 1);
        once(&headers)
    };
    for (at, from, to, fault) in [
        (0, "created=1735689600", "created=1735689601", Fault::Wrong),
        (0, "expires=4889289600", "expires=4889289601", Fault::Wrong),
        (0, "n9p4", "n9p5", Fault::Wrong),
        (1, ":RdNF", ":RdNE", Fault::Wrong),
        (2, "agent.test", "agent.text", Fault::Wrong),
        (0, "4889289600", "1735689650", Fault::Expired),
        (0, "created=1735689600", "created=1735689721", Fault::Early),
        (0, ";created=1735689600", "", Fault::Expired),
        (0, ";expires=4889289600", "", Fault::Expired),
        (0, "poqkLG", "poqkLH", Fault::UnknownKey),
        (0, ";keyid=", ";other=", Fault::Malformed),
        (0, "ed25519", "hmac-sha256", Fault::Malformed),
        (0, "\"@authority\" ", "", Fault::Uncovered),
        (0, " \"signature-agent\";key=\"agent2\"", "", Fault::Uncovered),
        (0, "\"@authority\"", "\"@authority\" \"@authority\"", Fault::Malformed),
        (0, "\"@authority\"", "\"@authority\";req", Fault::Malformed),
        (0, "\"@authority\"", "\"@authority\" \"@status\"", Fault::Malformed),
        (0, "\"@authority\"", "\"@authority\" \"x-missing\"", Fault::Malformed),
        (0, "agent2", "agent3", Fault::Malformed),
        (0, "sig2=", "sig3=", Fault::Malformed),
        (1, "sig2=:", "sig2=:AAAA", Fault::Malformed),
        (1, "sig2=", "", Fault::Malformed),
        (0, "sig2=(", "sig2=", Fault::Malformed),
    ] {
        assert_eq!(changed(at, from, to), Some(Err(fault)), "{from} -> {to}");
    }
    assert_eq!(changed(0, "web-bot-auth", "another-tag"), None, "not about this");
    assert_eq!(once(&[]), None);
    let with = |name, value: &str| [&plain[..], &[(name, value.to_owned())]].concat();
    assert_eq!(once(&with("signature-agent", "\"https://a.test\"")), Some(Err(Fault::Uncovered)), "an agent that nobody signed");
    let long = "x".repeat(HEADER_BYTES_MAX);
    assert_eq!(once(&with("signature-input", &format!("b=({long:?})"))), Some(Err(Fault::TooLarge)));
    let many = VECTORS[0].headers()[0].1.replace("\"@authority\"", &format!("\"@authority\"{}", " \"a\"".repeat(16)));
    assert_eq!(once(&[("signature-input", many), plain[1].clone()]), Some(Err(Fault::TooLarge)));
}

#[test]
fn without_a_nonce_it_is_good_for_minutes_and_a_flood_is_not_checked() {
    use ed25519_dalek::{Signer as _, SigningKey};
    let secret = SigningKey::from_bytes(&[5; 32]);
    let keys: HashMap<_, _> = [("k".to_owned(), (secret.verifying_key(), 1))].into();
    let params = format!(
        r#"("@method" "@target-uri" "@path" "@query" "@request-target" "@scheme" "x-a");created={CREATED_S};expires=4889289600;keyid="k";tag="web-bot-auth""#
    );
    let base = format!(
        "\"@method\": POST\n\"@target-uri\": http://shop.example:8080/a?b=c\n\"@path\": /a\n\"@query\": ?b=c\n\
         \"@request-target\": /a?b=c\n\"@scheme\": http\n\"x-a\": 1, 2\n\"@signature-params\": {params}"
    );
    let signature = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, secret.sign(base.as_bytes()).to_bytes());
    let headers = [("X-A", " 1 ".to_owned()), ("Signature-Input", format!("s={params}"))];
    let headers = [&headers[..], &[("Signature", format!("s=:{signature}:")), ("x-a", "2".to_owned())]].concat();
    let fields = Fields::new(headers.iter().map(|(n, v)| (*n, v.as_bytes())));
    let request =
        Signed { fields: &fields, method: "POST", authority: "shop.example:8080", https: false, path: "/a", query: Some("b=c") };
    let (nonces, budget) = (Remembered::new(64), ASecond::default());
    let ask = |after_s: u64| verify(&keys, &nonces, &budget, &request, Now::at(CREATED_S * 1_000, after_s * 1_000)).unwrap();
    assert_eq!((ask(1), ask(2), ask(299), ask(300)), (Ok(1), Ok(1), Ok(1), Err(Fault::Expired)));
    let good = (0..CHECKED_A_SECOND_MAX + 50).filter(|_| ask(9) == Ok(1)).count() as u64;
    assert_eq!((good, ask(9), ask(10)), (CHECKED_A_SECOND_MAX, Err(Fault::Busy), Ok(1)));
}
