//! `tidegate draw verify` and `tidegate draw receipt`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tidegate_filters::seats::draw::{
    beacon::is_public,
    digest::unhex,
    entries::Listed,
    statement::Receipt as Signed,
    transcript::Transcript,
    verify::{Published, Report, prove, verify},
};

use super::{
    super::{Failure, Outcome, fail, say},
    files::{Working, entries_of, read_entries, read_json},
};
use crate::beacon;

/// Arguments of `draw verify`.
#[derive(Debug, Args)]
#[command(after_help = VERIFY)]
pub(super) struct Verify {
    /// The transcript, as the gate publishes it
    transcript: PathBuf,
    /// The entries file [default: the one the transcript names, beside it]
    #[arg(long, value_name = "FILE")]
    entries: Option<PathBuf>,
    /// The commitment you saw before the sale, 64 hex digits
    #[arg(long, value_name = "HEX", value_parser = hash)]
    commitment: Option<[u8; 32]>,
    /// The gate's public key you saw before the sale, 64 hex digits
    #[arg(long, value_name = "HEX", value_parser = hash)]
    public_key: Option<[u8; 32]>,
    /// Receipts that must be in the list
    #[arg(long, value_name = "FILE")]
    receipt: Vec<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

const VERIFY: &str = "\
Examples:
  tidegate draw verify transcript.json
  tidegate draw verify transcript.json --commitment 9d64c0...23b --receipt mine.json
  tidegate draw verify --json transcript.json | jq .faults

Exit codes: 0 everything holds, 1 something was substituted or the public randomness is UNPROVEN.";

/// Arguments of `draw receipt`.
#[derive(Debug, Args)]
#[command(after_help = RECEIPT)]
pub(super) struct Receipt {
    /// The transcript, as the gate publishes it
    transcript: PathBuf,
    /// The receipt you got when you entered
    receipt: PathBuf,
    /// The entries file [default: the one the transcript names, beside it]
    #[arg(long, value_name = "FILE")]
    entries: Option<PathBuf>,
}

const RECEIPT: &str = "\
Examples:
  tidegate draw receipt transcript.json receipt.json                    the audit path as JSON
  tidegate draw receipt transcript.json receipt.json | jq .place        the place it drew

The answer is a Merkle path (RFC 6962): hash the leaf with each sibling, get the frozen root. `verify` checks the rest.";

fn hash(text: &str) -> Result<[u8; 32], String> {
    unhex(text).ok_or_else(|| "must be 64 lower-case hex digits".into())
}

impl Verify {
    pub(super) fn run(self) -> Outcome {
        let working = Working::on("reading");
        let t: Transcript = read_json(&self.transcript, "a transcript")?;
        let listed = read_entries(&entries_of(&self.transcript, &t, self.entries.as_ref())?)?;
        working.now("drawing again");
        let published = Published { commitment: self.commitment, public_key: self.public_key };
        let mut report = verify(&t, &listed, published, &beacon::check);
        let mut proofs = Vec::new();
        for file in &self.receipt {
            let signed: Signed = read_json(file, "a receipt")?;
            match prove(&t, &listed, &signed) {
                Ok(proof) => proofs.push(proof),
                Err(fault) => report.faults.push(fault),
            }
        }
        drop(working);
        let good = report.faults.is_empty() && report.unproven.is_none();
        if self.json {
            say(&as_json(&t, &report, &proofs, good).to_string())?;
        } else {
            say(&as_text(&t, &listed, &report))?;
            for p in &proofs {
                let place = p
                    .place
                    .map_or_else(|| "no place".into(), |n| format!("place {} of {} (the files count from 0: {n})", n + 1, p.n));
                say(&format!("receipt: entry {} is in the list, {place}", p.index))?;
            }
        }
        if good { Ok(()) } else { Err(Failure::Check) }
    }
}

fn as_json(t: &Transcript, report: &Report, proofs: &[impl serde::Serialize], good: bool) -> serde_json::Value {
    json!({
        "ok": good,
        "sale_id": t.draw_id(),
        "n": t.n,
        "cancelled": t.cancelled(),
        "faults": report.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "randomness": match (report.without_beacon, &report.unproven) {
            (true, _) => "none",
            (false, Some(_)) => "unproven",
            (false, None) if is_own(t) => "own_beacon",
            (false, None) => "proven",
        },
        "unproven_because": report.unproven,
        "operator_could_have_chosen": report.without_beacon || is_own(t),
        "receipts": proofs,
    })
}

/// Its rounds come from one key, not from the public.
fn is_own(t: &Transcript) -> bool {
    t.beacon.as_ref().is_some_and(|b| !is_public(&b.source))
}

fn as_text(t: &Transcript, listed: &Listed, report: &Report) -> String {
    let mut lines: Vec<String> = report.faults.iter().map(|f| format!("WRONG {f}")).collect();
    if let Some(why) = t.cancelled() {
        lines.push(format!(
            "cancelled: the sale did not take place ({why:?}, as the gate signed); no place in it is worth anything"
        ));
    }
    if let Some(why) = &report.unproven {
        lines.push(format!("UNPROVEN beacon: {why}; the operator could have invented the value"));
    }
    if is_own(t) {
        lines.push(
            "own beacon: whoever holds its key knew every round; the draw is as good as the word of who holds it that it is not \
             the operator"
                .into(),
        );
    }
    if report.without_beacon {
        lines.push(
            "no beacon: the operator could have chosen this outcome. The draw follows from the secret, and nothing public went into it"
                .into(),
        );
    }
    let places = listed.places.iter().flatten().count();
    let last = match (&report.faults[..], &t.beacon) {
        ([], Some(b)) if report.unproven.is_none() => format!(
            "good: {}, {} entries, {places} places; promise, list, round {} of {} and every place hold",
            t.draw_id(),
            t.n,
            b.round,
            b.source
        ),
        ([], _) => format!("{}, {} entries, {places} places: what could be recomputed holds", t.draw_id(), t.n),
        (faults, _) => format!("{}: {} found wrong; do not trust this draw", t.draw_id(), faults.len()),
    };
    lines.push(last);
    lines.join("\n")
}

impl Receipt {
    pub(super) fn run(self) -> Outcome {
        let t: Transcript = read_json(&self.transcript, "a transcript")?;
        let listed = read_entries(&entries_of(&self.transcript, &t, self.entries.as_ref())?)?;
        let signed: Signed = read_json(&self.receipt, "a receipt")?;
        let proof = prove(&t, &listed, &signed).map_err(|fault| fail(Failure::Check, &fault.to_string()))?;
        let mut proof = json!(proof);
        // Its signature is for `verify` to check, like all the rest.
        proof["cancelled"] = t.cancelled().into();
        say(&serde_json::to_string_pretty(&proof).map_err(|e| fail(Failure::Runtime, &e.to_string()))?)
    }
}
