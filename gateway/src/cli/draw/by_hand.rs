//! `tidegate draw commit`, `issue` and `run`: a draw without a gate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_filters::seats::draw::{
    beacon::{BeaconCheck, BeaconRound, Schedule},
    commit::{canonical_json, commitment, rules_hash},
    digest::{Hash, as_hex},
    entries,
    entry::EntryNames,
    rules::BeaconRule,
    statement::{Receipt, Signer},
    transcript::{FrozenList, Promise},
};

use super::{
    super::{Failure, Outcome, fail, say},
    files::{Working, read_entries, read_json, read_round, write, write_json},
    rules::{can_be_drawn_by, refuse_strange_weights, sale_name},
};
use crate::{
    beacon,
    clock::Clock,
    keys::{random, refuse_shared, write_secret},
};

const SECRET_FILE: &str = "secret.json";
const PROMISE_FILE: &str = "commitment.json";
const FROZEN_FILE: &str = "frozen.json";

/// Arguments of `draw commit`.
#[derive(Debug, Args)]
#[command(after_help = COMMIT)]
pub(super) struct Commit {
    /// A name for the sale, never used before: letters, digits, `-` and `_`
    #[arg(long, value_name = "NAME")]
    sale: String,
    /// JSON file of the rules: order, weights, beacon and what else you promise
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    /// A new directory for the secret and everything after it
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

const COMMIT: &str = "\
Examples:
  tidegate draw commit --sale drop-1 --rules rules.json --dir drop-1
  rules.json: {\"order\":\"draw_then_fifo\",\"weights\":{\"human\":16,\"unsure\":8,\"crowded\":2,\"suspect\":1},
               \"beacon\":{\"source\":\"drand-quicknet\",\"delay_s\":10}}

order is draw_then_fifo, fifo or draw_every 10s; weights are balls, 0 to 16, of classes that you name.
Publish what it prints before the first entry. secret.json stays yours until the draw.";

/// Arguments of `draw issue`.
#[derive(Debug, Args)]
#[command(after_help = ISSUE)]
pub(super) struct Issue {
    /// The directory of `draw commit`
    dir: PathBuf,
    /// Number of the entry, from 0
    index: u64,
}

const ISSUE: &str = "\
Examples:
  tidegate draw issue drop-1 0 > receipt-0.json        write the entry down before you hand this out

Once a list is frozen, only its entries get receipts.";

/// Arguments of `draw run`.
#[derive(Debug, Args)]
#[command(after_help = RUN)]
pub(super) struct Run {
    /// The directory of `draw commit`
    dir: PathBuf,
    /// CSV `index,entry_id,weight,place` with empty places, in index order
    #[arg(long, value_name = "FILE")]
    entries: PathBuf,
    /// The beacon round that was promised, as drand's API answers it
    #[arg(long, value_name = "FILE")]
    beacon: Option<PathBuf>,
}

const RUN: &str = "\
Examples:
  tidegate draw run drop-1 --entries list.csv                          freezes; says which round counts and when it comes
  tidegate draw run drop-1 --entries list.csv --beacon round.json      draws, writes transcript.json and entries.csv

Weights are those of the rules; a void entry (entry_id of zeros) weighs 0.
A list is frozen once: a second run with another list is refused.";

/// What only the operator knows.
#[derive(Serialize, Deserialize)]
struct Secrets {
    #[serde(with = "as_hex")]
    secret: Hash,
    #[serde(with = "as_hex")]
    entry_key: Hash,
    #[serde(with = "as_hex")]
    signing_key: Hash,
}

/// What everybody may know before the first entry.
#[derive(Serialize, Deserialize)]
struct Published {
    version: u32,
    sale_id: String,
    rules_json: String,
    #[serde(with = "as_hex")]
    rules: Hash,
    #[serde(with = "as_hex")]
    commitment: Hash,
    #[serde(with = "as_hex")]
    public_key: [u8; 32],
}

impl Commit {
    pub(super) fn run(self) -> Outcome {
        sale_name(&self.sale).map_err(|what| fail(Failure::Usage, &format!("--sale: {what}")))?;
        let rules: Value = read_json(&self.rules, "rules")?;
        let wrong = |what: String| fail(Failure::Usage, &format!("{}: {what}", self.rules.display()));
        let rules_json = canonical_json(&rules).map_err(|e| wrong(e.to_string()))?;
        // What is checked is what everybody will read, where 16.0 is 16.
        let rules: Value = serde_json::from_str(&rules_json).map_err(|e| wrong(e.to_string()))?;
        can_be_drawn_by(&rules).map_err(wrong)?;
        beacon_rule(&rules)?;
        fs::create_dir(&self.dir).map_err(|e| {
            fail(
                Failure::Usage,
                &format!("{}: cannot be made: {e}; a promise is made once, name a new directory", self.dir.display()),
            )
        })?;
        let entropy = || random().map_err(|e| fail(Failure::Runtime, &e.to_string()));
        let secrets = Secrets { secret: entropy()?, entry_key: entropy()?, signing_key: entropy()? };
        let text = serde_json::to_string_pretty(&secrets).map_err(|e| fail(Failure::Runtime, &e.to_string()))?;
        // On disk before anything is shown: a promise whose secret is lost cannot be kept.
        write_secret(&self.dir.join(SECRET_FILE), &format!("{text}\n"))
            .map_err(|e| fail(Failure::Runtime, &format!("{}: cannot be written: {e}", self.dir.join(SECRET_FILE).display())))?;
        let rules = rules_hash(&rules_json);
        let published = Published {
            version: 1,
            commitment: commitment(&self.sale, &rules, &secrets.secret),
            sale_id: self.sale,
            rules_json,
            rules,
            public_key: Signer::new(&secrets.signing_key).public_key(),
        };
        write_json(&self.dir.join(PROMISE_FILE), &published)?;
        say(&serde_json::to_string_pretty(&published).map_err(|e| fail(Failure::Runtime, &e.to_string()))?)
    }
}

impl Issue {
    pub(super) fn run(self) -> Outcome {
        let (secrets, published) = open(&self.dir)?;
        if let Some(frozen) = frozen_in(&self.dir)?.filter(|f| self.index >= f.n) {
            let what = format!(
                "entry {} is not in the list that was frozen in {}, which has {} entries, counted from 0; name one of them: a receipt for \
                 any other would look like proof that you dropped it",
                self.index,
                self.dir.join(FROZEN_FILE).display(),
                frozen.n
            );
            return Err(fail(Failure::Check, &what));
        }
        let id = EntryNames::new(&secrets.entry_key, &published.sale_id).id(self.index);
        let signer = Signer::new(&secrets.signing_key);
        let receipt = Receipt::sign(&signer, &published.sale_id, published.commitment, self.index, id);
        say(&serde_json::to_string_pretty(&receipt).map_err(|e| fail(Failure::Runtime, &e.to_string()))?)
    }
}

impl Run {
    pub(super) fn run(self) -> Outcome {
        let (secrets, published) = open(&self.dir)?;
        let working = Working::on("reading");
        let list = read_entries(&self.entries)?.entries;
        refuse_strange_weights(&self.entries, &list, &published.rules_json)?;
        let rule = beacon_rule(&serde_json::from_str(&published.rules_json).unwrap_or_default())?;
        let signer = Signer::new(&secrets.signing_key);
        let promise = Promise {
            sale_id: published.sale_id,
            window: None,
            rules_json: published.rules_json,
            rules: published.rules,
            commitment: published.commitment,
            secret: secrets.secret,
        };
        working.now("freezing");
        let frozen_file = self.dir.join(FROZEN_FILE);
        let frozen_before = frozen_in(&self.dir)?;
        let at = frozen_before.as_ref().map_or_else(|| Clock::new().now().wall_ms / 1_000, |f| f.frozen_at);
        let round = rule.as_ref().and_then(|r| r.round(at)).unwrap_or(0);
        let (frozen, _) = promise.freeze(&list, at, rule.as_ref().map_or("", |r| &r.source), round, &signer);
        if frozen_before.as_ref().is_some_and(|before| *before != frozen) {
            let what = format!(
                "{} is not the list that was frozen in {}; a list is frozen once",
                self.entries.display(),
                frozen_file.display()
            );
            return Err(fail(Failure::Check, &what));
        }
        write_json(&frozen_file, &frozen)?;
        let beacon = match (&rule, &self.beacon) {
            (None, None) => None,
            (None, Some(_)) => return Err(fail(Failure::Usage, "the rules promise no beacon; leave --beacon out")),
            (Some(rule), None) => {
                drop(working);
                let when = Schedule::of(&rule.source).map_or(0, |s| s.time_of(frozen.round));
                return say(&json!({ "frozen": frozen, "next": format!(
                    "round {} of {} comes at Unix second {when}; then run this again with --beacon FILE", frozen.round, rule.source
                ) }).to_string());
            }
            (Some(_), Some(file)) => Some(checked(read_round(file)?, &frozen)?),
        };
        working.now("drawing");
        let (transcript, places) = promise.reveal(&list, &frozen, beacon, signer.public_key(), "entries.csv");
        write(&self.dir.join("entries.csv"), &entries::write(&list, &places))?;
        write_json(&self.dir.join("transcript.json"), &transcript)?;
        drop(working);
        say(&format!("drawn; publish {0}/transcript.json and {0}/entries.csv", self.dir.display()))
    }
}

/// The promised round, and really the beacon's: a draw with any other value could not be verified.
fn checked(mut round: BeaconRound, frozen: &FrozenList) -> Result<BeaconRound, Failure> {
    if round.source != frozen.beacon_source && !round.source.starts_with("ed25519:") {
        round.source.clone_from(&frozen.beacon_source);
    }
    if round.round != frozen.round || round.source != frozen.beacon_source {
        let what = format!(
            "--beacon: this is round {} of {}, promised is round {} of {}",
            round.round, round.source, frozen.round, frozen.beacon_source
        );
        return Err(fail(Failure::Check, &what));
    }
    match beacon::check(&round) {
        BeaconCheck::Proven => Ok(round),
        BeaconCheck::Unproven(why) | BeaconCheck::Wrong(why) => Err(fail(Failure::Check, &format!("--beacon: {why}"))),
    }
}

fn beacon_rule(rules: &Value) -> Result<Option<BeaconRule>, Failure> {
    let Some(rule) = rules.get("beacon").filter(|b| !b.is_null()) else { return Ok(None) };
    let rule: Result<BeaconRule, _> = serde_json::from_value(rule.clone());
    let rule = rule.map_err(|e| fail(Failure::Usage, &format!("rules: `beacon` must be null or {{ source, delay_s }}: {e}")))?;
    if Schedule::of(&rule.source).is_none() {
        let what = format!(
            "rules: the beacon `{}` is not known; write drand-quicknet, or ed25519: and a public key in hex",
            rule.source
        );
        return Err(fail(Failure::Usage, &what));
    }
    Ok(Some(rule))
}

/// The list that was frozen in a directory; `None` before that.
fn frozen_in(dir: &Path) -> Result<Option<FrozenList>, Failure> {
    let file = dir.join(FROZEN_FILE);
    file.exists().then(|| read_json(&file, "a frozen list")).transpose()
}

fn open(dir: &Path) -> Result<(Secrets, Published), Failure> {
    let secret = dir.join(SECRET_FILE);
    let published = read_json(&dir.join(PROMISE_FILE), "what `draw commit` wrote")?;
    refuse_shared(&secret, 0o600).map_err(|e| fail(Failure::Check, &e.to_string()))?;
    Ok((read_json(&secret, "the secrets of a draw")?, published))
}
