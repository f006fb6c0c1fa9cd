//! What `check` says about certificates, keys, tokens, models and directories that really exist.

use std::{cell::Cell, fs, path::Path};

use tempfile::TempDir;
use tidegate_config::{Checks, DeepCheck, Loaded, PolicyErrors, Tls, diff_needs_restart, load, load_with, parse_with};

struct Shop {
    dir: TempDir,
}

impl Shop {
    /// A directory with a good certificate, key, token and model.
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let pair = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
        let shop = Shop { dir };
        shop.write("shop.pem", pair.cert.pem().as_bytes());
        shop.write("shop.key", pair.signing_key.serialize_pem().as_bytes());
        shop.write("token", b"0123456789abcdef0123456789abcdef\n");
        shop.write("model.onnx", b"\x08\x07");
        shop
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        #[cfg(unix)]
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn policy(&self) -> String {
        "version: 1
listen: [ { address: 127.0.0.1:8443, tls: { certificate: DIR/shop.pem, key: DIR/shop.key } } ]
admin: { address: 127.0.0.1:9900, token_file: DIR/token }
shop: { upstreams: [ { address: 127.0.0.1:3000, tls: { server_name: shop.example, authorities: DIR/shop.pem } } ] }
filters: [ { bot_gate: { model: DIR/model.onnx, when_unscored: wait, challenge_at: 0.7 } } ]
journal: { directory: DIR/new/journal }
keys: { directory: DIR/new/keys }
"
        .replace("DIR", self.dir.path().to_str().unwrap())
    }

    fn check(&self) -> Result<Loaded, PolicyErrors> {
        parse_with(&self.policy(), "policy.yaml", &Checks::default())
    }

    /// The one error, as `path: what`.
    fn error(&self) -> String {
        let errors = self.check().expect_err("it was accepted").errors;
        assert_eq!(errors.len(), 1, "{errors:?}");
        format!("{}: {}", errors[0].path, errors[0].what)
    }
}

#[test]
fn good_files_are_accepted_and_nothing_is_made() {
    let shop = Shop::new();
    let loaded = shop.check().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.render_warnings(), "");
    assert!(!shop.dir.path().join("new").exists(), "checking leaves no traces");
}

#[test]
fn swapped_and_broken_certificates_are_told_apart() {
    let shop = Shop::new();
    let key = fs::read(shop.dir.path().join("shop.key")).unwrap();
    let certificate = fs::read(shop.dir.path().join("shop.pem")).unwrap();
    shop.write("shop.key", &certificate);
    assert!(shop.error().contains("listen[0].tls.key: ") && shop.error().contains("holds no private key"));
    shop.write("shop.key", &key);
    shop.write("shop.pem", &key);
    assert!(shop.check().unwrap_err().to_string().contains("holds a private key"));
    shop.write("shop.pem", &certificate[..certificate.len() / 2]);
    assert!(shop.check().unwrap_err().to_string().contains("is not PEM"));
    shop.write("shop.pem", b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
    assert!(shop.check().unwrap_err().to_string().contains("is not PEM"));
    shop.write("shop.pem", &vec![b'x'; 2 << 20]);
    assert!(shop.check().unwrap_err().to_string().contains("larger than 1 MiB"));
}

#[test]
fn short_tokens_and_files_in_the_way_are_refused() {
    let shop = Shop::new();
    shop.write("token", b"secret\n");
    assert!(shop.error().contains("admin.token_file"));
    shop.write("token", b"0123456789abcdef\n");
    shop.write("new", b"a file where a directory should be");
    let shown = shop.check().unwrap_err().to_string();
    assert!(shown.contains("journal.directory") && shown.contains("keys.directory") && shown.contains("is not a directory"));
}

#[cfg(unix)]
#[test]
fn secrets_that_others_can_read_are_doubtful_and_a_token_so_is_refused() {
    let shop = Shop::new();
    let open = |name: &str, mode| {
        fs::set_permissions(shop.dir.path().join(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    open("shop.key", 0o644);
    let warnings = shop.check().unwrap().render_warnings();
    assert_eq!(warnings.matches("can be read by others").count(), 1, "{warnings}");
    for mode in [0o644, 0o640] {
        open("token", mode);
        assert!(shop.error().contains("admin.token_file: ") && shop.error().contains("will not start"), "{}", shop.error());
    }
}

/// Refuses everything, and counts.
#[derive(Default)]
struct Strict(Cell<u32>);

impl DeepCheck for Strict {
    fn certificate(&self, _: &Tls) -> Result<(), String> {
        self.0.set(self.0.get() + 1);
        Err("the key belongs to another certificate".into())
    }
    fn authorities(&self, _: &Path) -> Result<(), String> {
        Err("no authority in it".into())
    }
    fn model(&self, settings: &tidegate_filters::rule::bot_gate::BotGateSettings) -> Result<(), String> {
        Err(format!("{} wants 7 inputs, the gate gives 40", settings.model.len()))
    }
}

#[test]
fn deeper_checks_speak_at_the_right_place() {
    let shop = Shop::new();
    let strict = Strict::default();
    let checks = Checks { deep: Some(&strict), ..Checks::default() };
    let errors = parse_with(&shop.policy(), "policy.yaml", &checks).unwrap_err().errors;
    let paths: Vec<&str> = errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, ["listen[0].tls.certificate", "shop.upstreams[0].tls.authorities", "filters[0].bot_gate.model"]);
    // What cannot even be read is not asked about.
    shop.write("shop.pem", b"");
    parse_with(&shop.policy(), "policy.yaml", &checks).unwrap_err();
    assert_eq!(strict.0.get(), 1);
}

/// Knows a model that runs, or not, as its name says.
struct Runs;

impl DeepCheck for Runs {
    fn runtime(
        &self,
        settings: &tidegate_filters::rule::bot_gate::BotGateSettings,
    ) -> Result<Option<(String, &'static str)>, String> {
        match settings.deadline.ms() {
            5 => Err("the library was not found".into()),
            _ => Ok(Some(("there is no device".into(), "install one"))),
        }
    }
}

#[test]
fn what_runs_a_model_is_checked_once_and_not_where_a_gate_says_so_itself() {
    let text = |deadline: &str| {
        format!(
            "version: 1\nlisten: [ {{ address: 127.0.0.1:8080 }} ]\nshop: {{ upstreams: [ {{ address: 127.0.0.1:3000 }} ] }}\n\
             routes: [ {{ name: a, match: {{ prefix: /a }} }}, {{ name: b }} ]\nfilters:\n\
             \x20 - bot_gate: {{ routes: [a], challenge_at: 0.5, when_unscored: admit, runtime: onnxruntime, deadline: {deadline} }}\n\
             \x20 - bot_gate: {{ routes: [b], challenge_at: 0.6, when_unscored: admit, runtime: onnxruntime, deadline: {deadline} }}\n"
        )
    };
    let of = |to_run: bool, deadline: &str| {
        parse_with(&text(deadline), "policy.yaml", &Checks { deep: Some(&Runs), to_run, ..Checks::default() })
    };
    let errors = of(false, "5ms").unwrap_err().errors;
    assert_eq!(errors.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), ["filters[0].bot_gate.runtime"]);
    let doubts = of(false, "6ms").unwrap();
    assert_eq!(doubts.warnings.len(), 1, "{}", doubts.render_warnings());
    assert!(doubts.render_warnings().contains("filters[0].bot_gate.runtime: there is no device"));
    assert_eq!(of(true, "5ms").unwrap().warnings.len(), 0);
}

/// Knows that no forecast is any good.
struct NoForecast;

impl DeepCheck for NoForecast {
    fn forecast(&self, _: &tidegate_config::ForecastSettings) -> Result<(), String> {
        Err("says 1e30 about an ordinary minute".into())
    }
}

#[test]
fn a_forecast_model_that_is_no_good_stops_a_check_and_not_a_gate() {
    let dir = TempDir::new().unwrap();
    let model = dir.path().join("f.onnx");
    let text = |admission: &str| {
        format!(
            "version: 1\nlisten: [ {{ address: 127.0.0.1:8080 }} ]\nshop: {{ upstreams: [ {{ address: 127.0.0.1:3000 }} ] }}\n\
             forecast: {{ model: {} }}\nrooms: [ {{ name: drop, admission: {admission} }} ]\n",
            model.display()
        )
    };
    let of = |to_run: bool, admission: &str| {
        parse_with(&text(admission), "policy.yaml", &Checks { deep: Some(&NoForecast), to_run, ..Checks::default() })
    };
    assert!(of(false, "forecast").unwrap_err().to_string().contains("cannot be read"));
    assert!(of(true, "forecast").unwrap().render_warnings().contains("cannot be read"), "a gate goes on without it");
    fs::write(&model, "rubbish").unwrap();
    assert!(of(false, "forecast").unwrap_err().to_string().contains("says 1e30"));
    let doubts = of(true, "forecast").unwrap().render_warnings();
    assert!(doubts.contains("says 1e30") && doubts.contains("experts go on alone"), "{doubts}");
    assert!(!doubts.contains("nobody asks"), "{doubts}");
    let doubts = of(true, "measured").unwrap().render_warnings();
    assert!(doubts.contains("forecast.model: no room looks ahead"), "{doubts}");
}

#[test]
fn files_that_are_no_policies() {
    let dir = TempDir::new().unwrap();
    let missing = load(dir.path().join("none.yaml")).unwrap_err().to_string();
    assert!(missing.contains("none.yaml: cannot be read"), "{missing}");
    assert!(load(dir.path()).is_err(), "a directory");
    let path = dir.path().join("policy.yaml");
    fs::write(&path, b"version: 1\nlisten: \xff\xfe\n").unwrap();
    let other = load(&path).unwrap_err().to_string();
    assert!(other.contains("policy.yaml:2:9") && other.contains("not UTF-8 text"), "{other}");
    fs::write(&path, vec![b'#'; 3 << 20]).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("larger than 1 MiB"));
}

#[test]
fn a_change_of_the_file_changes_its_hash_and_names_restarts() {
    let a = load("policies/calm-day.yaml").unwrap();
    let text = a.text.replace("127.0.0.1:8080", "127.0.0.1:8081");
    let b = parse_with(&text, "b", &Checks::default()).unwrap();
    assert_ne!(a.sha256, b.sha256);
    assert_eq!(diff_needs_restart(&a.policy, &b.policy), ["listen"]);
    let same = load_with("policies/calm-day.yaml", &Checks::default()).unwrap();
    assert_eq!((a.sha256, diff_needs_restart(&a.policy, &same.policy).len()), (same.sha256, 0));
}
