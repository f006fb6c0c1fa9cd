//! A stranger at the demo's sale: notes the promise before the crowd comes, enters, keeps the receipt, and afterwards
//! recomputes the draw from the published files with `tidegate draw verify`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{ACCEPT, COOKIE};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{process::Command, time::Instant};

use super::DemoError;
use crate::live::{self, Jar, Target};

/// How long the promise or the draw may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one answer, or the verifier, may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What came of checking a draw from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawProof {
    /// Everything holds: promise, list, root, public randomness, every place, the receipt.
    pub holds: bool,
    /// What does not, in words.
    pub faults: Vec<String>,
    /// Entries of the frozen list.
    pub entries: u64,
    /// Those with a place.
    pub places: u64,
    /// The root of all entries, hex.
    pub root: String,
    /// The round of public randomness.
    pub round: u64,
    /// The place the stranger's own receipt was proven to have drawn, from 0.
    pub receipt_place: Option<u64>,
    /// Entries by class when the list was frozen.
    pub by_class: std::collections::BTreeMap<String, u64>,
}

/// The stranger, between entering and checking.
#[derive(Debug)]
pub(super) struct Auditor {
    gate: Target,
    directory: PathBuf,
    commitment: String,
    public_key: String,
    /// Answers it got: the gate's books must know of them.
    pub(super) answers: u64,
}

impl Auditor {
    /// Notes the promise, enters, keeps the receipt in `directory`.
    pub(super) async fn enter(gate: &Target, directory: &Path) -> Result<Self, DemoError> {
        std::fs::create_dir_all(directory).map_err(|e| DemoError::io(format!("making {}", directory.display()), e))?;
        let mut me = Auditor {
            gate: gate.clone(),
            directory: directory.to_owned(),
            commitment: String::new(),
            public_key: String::new(),
            answers: 0,
        };
        let mut jar = Jar::default();
        let promised = me.draw_in("open", &mut jar).await?;
        let text = |key: &str| promised["promise"][key].as_str().unwrap_or_default().to_owned();
        (me.commitment, me.public_key) = (text("commitment"), text("public_key"));
        // An entry rests on a cookie that came back once; the receipt is there once the entry is on the gate's disk.
        let deadline = Instant::now() + PATIENCE;
        loop {
            me.get("/", &mut jar).await?;
            let (status, receipt) = me.get("/.tidegate/receipt", &mut jar).await?;
            if status == 200 {
                me.save("receipt.json", &receipt)?;
                return Ok(me);
            }
            if Instant::now() >= deadline {
                return Err(DemoError::Draw(format!("no receipt for an entry: status {status}")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Fetches what was revealed and runs the gate's own verifier on it, as anybody could.
    pub(super) async fn check(&mut self, program: &Path) -> Result<DrawProof, DemoError> {
        let mut jar = Jar::default();
        let drawn = self.draw_in("drawn", &mut jar).await?;
        for (key, file) in [("transcript", "transcript.json"), ("entries_file", "entries.csv")] {
            let path = drawn[key].as_str().unwrap_or_default().to_owned();
            let (status, body) = self.get(&path, &mut jar).await?;
            if status != 200 {
                return Err(DemoError::Draw(format!("GET {path} answers {status}")));
            }
            self.save(file, &body)?;
        }
        let file = |name: &str| self.directory.join(name);
        let mut verify = Command::new(program);
        verify.args(["draw", "verify", "--json"]).arg(file("transcript.json"));
        verify.args(["--commitment", &self.commitment, "--public-key", &self.public_key]);
        verify.arg("--receipt").arg(file("receipt.json")).kill_on_drop(true);
        let run = tokio::time::timeout(ANSWER_WITHIN, verify.output()).await;
        let out = run.map_err(|_| DemoError::Draw("`tidegate draw verify` did not end".into()))?;
        let out = out.map_err(|e| DemoError::io(format!("starting {}", program.display()), e))?;
        let report: Value = serde_json::from_slice(&out.stdout)
            .map_err(|_| DemoError::Draw(String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()))?;
        Ok(proof(&drawn, &report, out.status.success()))
    }

    /// The draw, once it is in a state.
    async fn draw_in(&mut self, state: &str, jar: &mut Jar) -> Result<Value, DemoError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.get("/.tidegate/draw", jar).await?;
            let draw: Value = serde_json::from_slice(&body).unwrap_or_default();
            if status == 200 && draw["state"] == state {
                return Ok(draw);
            }
            if Instant::now() >= deadline {
                return Err(DemoError::Draw(format!("it is not {state}: status {status}, {}", draw["state"])));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn get(&mut self, path: &str, jar: &mut Jar) -> Result<(u16, Bytes), DemoError> {
        let uri = format!("{}{path}", self.gate);
        let wrong = |e: String| DemoError::Draw(format!("{uri}: {e}"));
        let mut request = hyper::Request::get(&uri).header(ACCEPT, "application/json");
        if let Some(cookies) = jar.header() {
            request = request.header(COOKIE, cookies);
        }
        let request = request.body(Full::new(Bytes::new())).map_err(|e| wrong(e.to_string()))?;
        let exchange = async {
            let response = live::client().request(request).await.map_err(|e| wrong(e.to_string()))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|e| wrong(e.to_string()))?.to_bytes();
            Ok::<_, DemoError>((parts, body))
        };
        let timed = tokio::time::timeout(ANSWER_WITHIN, exchange).await;
        let (parts, body) = timed.map_err(|_| wrong("no answer".into()))??;
        self.answers += 1;
        jar.take(&parts.headers);
        Ok((parts.status.as_u16(), body))
    }

    fn save(&self, name: &str, body: &[u8]) -> Result<(), DemoError> {
        let path = self.directory.join(name);
        std::fs::write(&path, body).map_err(|e| DemoError::io(format!("writing {}", path.display()), e))
    }
}

/// The verifier's report, beside what the gate said of its list.
fn proof(drawn: &Value, report: &Value, success: bool) -> DrawProof {
    let frozen = &drawn["frozen"];
    let mut faults: Vec<String> =
        report["faults"].as_array().into_iter().flatten().filter_map(|f| f.as_str().map(str::to_owned)).collect();
    // The demo reaches no public beacon: its own stands in.
    if report["randomness"] != "own_beacon" {
        faults.push(format!("the public randomness is {}", report["randomness"].as_str().unwrap_or("not told")));
    }
    if report["n"] != frozen["n"] {
        faults.push(format!("the transcript has {} entries, the frozen list {}", report["n"], frozen["n"]));
    }
    let receipt_place = report["receipts"][0]["place"].as_u64();
    if receipt_place.is_none() {
        faults.push("the receipt of an entry is not proven to have a place".into());
    }
    if faults.is_empty() && !(success && report["ok"] == true) {
        faults.push("`tidegate draw verify` says no".into());
    }
    let classes = frozen["by_class"].as_object().into_iter().flatten();
    DrawProof {
        holds: faults.is_empty(),
        faults,
        entries: frozen["n"].as_u64().unwrap_or(0),
        places: frozen["places"].as_u64().unwrap_or(0),
        root: frozen["root"].as_str().unwrap_or_default().to_owned(),
        round: frozen["round"].as_u64().unwrap_or(0),
        receipt_place,
        by_class: classes.filter_map(|(k, n)| Some((k.clone(), n.as_u64()?))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_draw_holds_only_when_all_of_it_does() {
        let drawn = json!({ "frozen": { "n": 3, "places": 3, "root": "ab", "round": 9, "by_class": { "human": 3 } } });
        let good = json!({ "ok": true, "n": 3, "randomness": "own_beacon", "faults": [], "receipts": [{ "place": 1 }] });
        let held = proof(&drawn, &good, true);
        assert!(held.holds && held.receipt_place == Some(1) && held.by_class["human"] == 3, "{held:?}");
        let with = |key: &str, value: Value| {
            let mut report = good.clone();
            report[key] = value;
            proof(&drawn, &report, true).holds
        };
        assert!(!with("faults", json!(["place 3 was drawn by another entry"])));
        assert!(!with("randomness", json!("none")) && !with("randomness", json!("unproven")));
        assert!(!with("n", json!(2)) && !with("receipts", json!([])) && !with("ok", json!(false)));
        assert!(!proof(&drawn, &good, false).holds, "the exit code counts as well");
        assert!(!proof(&drawn, &Value::Null, true).holds);
    }
}
