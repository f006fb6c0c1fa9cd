//! The examples of `policies/` load, mean what they say, and fit the schema.

use std::{fs, path::PathBuf};

use serde_json::Value;
use tidegate_config::{Checks, Loaded, Policy, Upstream, explain, load_with, schema};
use tidegate_filters::seats::room::Order;

use crate::golden::NOW_MS;

pub(crate) fn examples() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir("policies").unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn loaded(name: &str) -> Loaded {
    let checks = Checks { now_unix_ms: Some(NOW_MS), ..Checks::default() };
    load_with(format!("policies/{name}.yaml"), &checks).unwrap_or_else(|e| panic!("{e}"))
}

fn zero_config() -> Policy {
    Policy::zero_config(vec![Upstream::from_url("http://127.0.0.1:3000").unwrap()], "127.0.0.1:8080".parse().unwrap())
}

#[test]
fn a_unit_is_set_aside_where_places_are_drawn_and_units_are_taken() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/drop-day.yaml")).unwrap();
    let reserve = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        tidegate_config::parse(&text.replace(from, to), "drop-day.yaml").unwrap().policy.pipeline_settings().sales[0].reserve_s
    };
    let line = text.lines().find(|l| l.contains("reserve: 2m")).unwrap();
    assert_eq!(reserve(line, ""), 120, "as without the line");
    assert_eq!(reserve("reserve: 2m", "reserve: 0s"), 0);
    assert_eq!(reserve("order: draw_then_fifo", "order: fifo"), 120, "as written");
}

#[test]
fn every_example_loads_without_a_word() {
    assert_eq!(examples().len(), 5);
    for file in examples() {
        let loaded = loaded(file.file_stem().unwrap().to_str().unwrap());
        assert_eq!(loaded.render_warnings(), "", "{}", file.display());
        assert_eq!(loaded.sha256.len(), 64);
    }
}

#[test]
fn the_zero_config_file_is_zero_config() {
    let written = serde_json::to_value(&loaded("zero-config").policy).unwrap();
    assert_eq!(written, serde_json::to_value(zero_config()).unwrap());
    let built = Loaded::from_policy(zero_config(), &Checks::default()).unwrap();
    assert_eq!(built.warnings, []);
    // Its text is a policy again.
    let again = tidegate_config::parse(&built.text, "zero").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(serde_json::to_value(&again.policy).unwrap(), written);
}

#[test]
fn everything_in_shadow_is_in_shadow() {
    assert!(loaded("shadow").policy.filters.iter().all(|f| f.shadow()));
}

#[test]
fn a_drop_becomes_what_the_filters_need() {
    let p = loaded("drop-day").policy.pipeline_settings();
    assert_eq!(p.routes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["assets", "checkout", "shop"]);
    assert_eq!((p.filters.len(), p.rooms.len(), p.sales.len()), (6, 1, 1));
    let sale = &p.sales[0];
    assert_eq!(sale.opens_ms, 1_796_090_400_000, "10:00 in Shanghai is 02:00 UTC");
    assert_eq!((sale.opens_ms - sale.prequeue_opens_ms, sale.closes_ms - sale.opens_ms), (30 * 60_000, 120 * 60_000));
    assert_eq!((sale.stock, sale.per_visitor_max, sale.lot, &*sale.room), (Some(500), Some(1), 1, "drop"));
}

#[test]
fn explanations_say_the_numbers() {
    let text = explain(&loaded("drop-day").policy);
    for said in [
        "up to 300 people are in the shop at the same time",
        "after 2m without a visit, and after 10m in any case",
        "places from 2026-12-01T09:30:00+08:00, 30m before it opens",
        "closes at 2026-12-01T12:00:00+08:00, 2h later",
        "500 units are on sale",
        "POST takes one unit of sale sneaker-42, kept 5m for who does not finish",
        "A visitor may buy 1",
        "from 0.85 on the slow lane; nobody is refused for a score",
        "between 20 requests a second and 400 requests a second",
    ] {
        assert!(text.contains(said), "{said:?} is missing in:\n{text}");
    }
    assert!(!text.contains("Doubts"), "{text}");
    assert!(text.contains("first come, first served") == text.contains(" in the order of its draw"), "{text}");
    let drawn = explain(&loaded("fair-draw").policy);
    assert!(drawn.contains("in a sale in the order of its draw, and behind the drawn first come"), "{drawn}");
    assert!(drawn.contains("cannot ask the shop whether it is a login") && drawn.contains("not impossible"), "{drawn}");
    let calm = explain(&loaded("calm-day").policy);
    for said in [
        "who asks for /all-offers/ gets 404 and is known as a program for 1d: the slow lane",
        "googlebot (says Googlebot and comes with an address whose name is in googlebot.com and google.com)",
        "Who only says to be one: the slow lane",
    ] {
        assert!(calm.contains(said), "{said:?} is missing in:\n{calm}");
    }
    let zero = explain(&zero_config());
    assert!(zero.contains("(in shadow: written down, not done)") && zero.contains("Signing keys live in memory"), "{zero}");
    let mut doubtful = zero_config();
    doubtful.listen[0].address = "0.0.0.0:80".parse().unwrap();
    assert!(explain(&doubtful).contains("Doubts:\n- listen[0].address: plain http"));
}

#[test]
fn a_device_is_a_word_of_the_bot_gate_and_doubtful_where_it_gains_nothing() {
    let text = |model: &str| {
        format!(
            "version: 1\nlisten: [ {{ address: 127.0.0.1:8080 }} ]\nshop: {{ upstreams: [ {{ address: 127.0.0.1:3000 }} ] }}\n\
             filters: [ {{ bot_gate: {{ to_the_back_at: 0.85, when_unscored: wait, runtime: onnxruntime-cuda, model: {model} }} }} ]\n"
        )
    };
    let unread = Checks { skip_files: true, ..Checks::default() };
    let of = |model: &str| tidegate_config::parse_with(&text(model), "p", &unread).unwrap_or_else(|e| panic!("{e}"));
    let (small, large) = (of("builtin"), of("/srv/large.onnx"));
    assert!(small.render_warnings().contains("filters[0].bot_gate.runtime: the CPU runs the shipped model in microseconds"));
    assert_eq!(large.render_warnings(), "");
    assert!(explain(&large.policy).contains("on a CUDA device, visits in batches; without one on the CPU"));
    let value = serde_json::to_value(&large.policy).unwrap();
    assert_eq!(value["filters"][0]["bot_gate"]["runtime"], "onnxruntime-cuda");
    assert_eq!(fits(&schema(), &schema(), &value, ""), Ok(()));
}

#[test]
fn the_schema_accepts_every_example_and_refuses_unknown_keys() {
    let schema = schema();
    for file in examples() {
        let text = fs::read_to_string(&file).unwrap();
        let mut value: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(fits(&schema, &schema, &value, ""), Ok(()), "{}", file.display());
        value["rooms"][0]["seets"] = 1.into();
        assert!(fits(&schema, &schema, &value, "").is_err());
    }
    let zero = serde_json::to_value(zero_config()).unwrap();
    assert_eq!(fits(&schema, &schema, &zero, ""), Ok(()));
    let described = schema["$defs"]["RoomSettings"]["properties"]["claim_window"]["description"].as_str();
    assert!(described.is_some_and(|d| d.contains("called visitor")), "editors show the docs");
}

/// As much of JSON Schema as the generator writes, patterns aside.
fn fits(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Some(s) = schema.as_object() else { return Ok(()) };
    for (keyword, rule) in s {
        match keyword.as_str() {
            "$ref" => fits(root, root.pointer(&rule.as_str().unwrap()[1..]).unwrap(), value, at)?,
            "type" => {
                let is = |t: &Value| match t.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "number" => value.is_number(),
                    "null" => value.is_null(),
                    other => panic!("unknown type {other}"),
                };
                let good = rule.as_array().map_or_else(|| is(rule), |types| types.iter().any(is));
                good.then_some(()).ok_or(format!("{at}: {value} is not {rule}"))?;
            }
            "enum" if !rule.as_array().unwrap().contains(value) => return Err(format!("{at}: {value} is none of {rule}")),
            "const" if rule != value => return Err(format!("{at}: {value} is not {rule}")),
            "oneOf" | "anyOf" => {
                let n = rule.as_array().unwrap().iter().filter(|r| fits(root, r, value, at).is_ok()).count();
                if n == 0 || (keyword == "oneOf" && n > 1) {
                    return Err(format!("{at}: {value} fits {n} of {rule}"));
                }
            }
            "allOf" => rule.as_array().unwrap().iter().try_for_each(|r| fits(root, r, value, at))?,
            "required" if value.is_object() => {
                if let Some(missing) = rule.as_array().unwrap().iter().find(|k| value.get(k.as_str().unwrap()).is_none()) {
                    return Err(format!("{at}: {missing} is missing"));
                }
            }
            "minimum" if value.as_f64().is_some_and(|v| v < rule.as_f64().unwrap()) => return Err(format!("{at}: too low")),
            "maximum" if value.as_f64().is_some_and(|v| v > rule.as_f64().unwrap()) => return Err(format!("{at}: too high")),
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    fits(root, rule, item, &format!("{at}[{i}]"))?;
                }
            }
            "properties" => {
                for (key, v) in value.as_object().into_iter().flatten() {
                    match rule.get(key) {
                        Some(r) => fits(root, r, v, &format!("{at}.{key}"))?,
                        None if s.get("additionalProperties") == Some(&Value::Bool(false)) => {
                            return Err(format!("{at}.{key}: unknown"));
                        }
                        None => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn a_room_is_drawn_by_default_where_that_makes_sense() {
    let order = |room: &str, sale: &str, rest: &str| {
        let text = format!(
            "version: 1
listen: [ {{ address: 127.0.0.1:8080 }} ]
shop: {{ upstreams: [ {{ address: 127.0.0.1:3000 }} ] }}
filters: [ {{ waiting_room: {{ room: drop }} }} ]
rooms: [ {{ name: drop{room} }} ]
sales: [ {{ name: s, room: drop, {sale} closes_at: 2026-12-01T12:00:00+08:00 }} ]
{rest}"
        );
        let loaded = tidegate_config::parse(&text, "policy.yaml").unwrap_or_else(|e| panic!("{e}"));
        (loaded.policy.rooms[0].order, loaded.render_warnings())
    };
    let kept = "state: { directory: target/state }\nkeys: { directory: target/keys }\n";
    let early = "prequeue_opens_at: 2026-12-01T09:30:00+08:00, opens_at: 2026-12-01T10:00:00+08:00,";
    let late = "prequeue_opens_at: 2026-12-01T09:59:30+08:00, opens_at: 2026-12-01T10:00:00+08:00,";
    let (drawn, doubts) = order("", early, kept);
    assert_eq!(drawn, Order::DrawThenFifo);
    assert!(doubts.contains("operator could choose") && doubts.contains("a million of them"), "{doubts}");
    assert_eq!(order(", order: fifo", early, kept).0, Order::Fifo, "what is written counts");
    assert_eq!(order("", "opens_at: 2026-12-01T10:00:00+08:00,", kept).0, Order::Fifo, "no pre-queue");
    assert_eq!(order("", late, kept).0, Order::Fifo, "too short to freeze a list");
    assert_eq!(order(", freeze_before: 20s", late, kept).0, Order::DrawThenFifo);
    assert_eq!(order("", early, "").0, Order::Fifo, "no disk for the entries");
    assert_eq!(order(", on_failure: open_bounded", early, kept).0, Order::Fifo, "it lets people pass the draw");
    let (_, doubts) = order(", beacon: none, visitor: { entries_per_network: 8 }", early, kept);
    assert!(!doubts.contains("rooms[0]"), "said on purpose: {doubts}");
}
