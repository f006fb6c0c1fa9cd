//! What the admin API says of a forecast.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::testing::Bench;

#[test]
fn a_room_that_looks_ahead_tells_how_well_and_one_that_does_not_says_nothing() {
    let bench = Bench::new();
    let gate = bench.start("");
    assert!(bench.admin(&gate, "GET", "/v1/status", "").json()["forecast"].is_null());
    let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/foreign/sklearn.onnx");
    let forecast = format!("forecast: {{ model: {}, runtime: builtin }}\n", model.display());
    let policy = bench.policy(&forecast).replace("{ name: drop }", "{ name: drop, admission: forecast }");
    let applied = bench.admin(&gate, "POST", "/v1/policy/apply", &policy);
    assert_eq!(applied.status, 200, "{}", applied.body);
    let status = || bench.admin(&gate, "GET", "/v1/status", "").json();
    crate::testing::until("the model is loaded", || {
        status()["forecast"]["model"].as_str().is_some_and(|m| m.contains("sklearn.onnx"))
    });
    let reason = status()["rooms"][0]["plan"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("forecast"), "{reason}");
    let metrics = bench.admin(&gate, "GET", "/metrics", "").body;
    assert!(metrics.contains("tidegate_forecast_on{series=\"arrivals_1s\",horizon_s=\"10\"} 0"), "{metrics}");
    assert!(
        metrics.contains("tidegate_forecast_model_well 1") && metrics.contains("tidegate_forecast_tick_seconds"),
        "{metrics}"
    );
    let broken = policy.replace("sklearn.onnx", "make.py");
    let refused = bench.admin(&gate, "POST", "/v1/policy/apply", &broken);
    if refused.status == 200 {
        // This bench tries no model in a child: the gate finds out when it reads it, and says so.
        crate::testing::until("the file is refused", || status()["forecast"]["refused"].is_string());
        assert!(status()["forecast"]["model"].as_str().unwrap().contains("sklearn.onnx"), "the old one stays");
    }
    assert_eq!(bench.admin(&gate, "POST", "/v1/policy/apply", &bench.policy("")).status, 200);
    crate::testing::until("nobody asks any more", || status()["forecast"].is_null());
}
