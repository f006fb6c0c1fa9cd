//! `tidegate draw rehearse`

use std::{fs, path::PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use tidegate_filters::seats::draw::{
    entries,
    rehearse::{Rehearsal, RehearsalBeacon, published_round},
};

use super::{
    super::{Failure, Outcome, fail, say},
    files::{Working, write, write_json},
};

/// Arguments of `draw rehearse`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Rehearse {
    /// How many entries, void ones included; 1 to 10,000,000
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    entries: u32,
    /// Everything follows from this number
    #[arg(long)]
    seed: u64,
    /// A new or empty directory for transcript.json, entries.csv and receipt-N.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Which randomness the sale promised
    #[arg(long, value_enum, default_value_t = Beacon::Local)]
    beacon: Beacon,
    /// Invent this window of a sale that is drawn window by window
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(0..100_000))]
    window: Option<u64>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Beacon {
    /// Nothing public: `verify` says that the outcome could have been chosen
    None,
    /// A beacon whose key follows from the seed
    Local,
    /// Round 123 of drand's quicknet, as it was published
    Quicknet,
}

const EXAMPLES: &str = "\
Examples:
  tidegate draw rehearse --entries 10000 --seed 1 --out sale && tidegate draw verify sale/transcript.json
  tidegate draw rehearse --entries 1000000 --seed 2 --beacon quicknet --out million
  tidegate draw rehearse --entries 500 --seed 3 --window 12 --out window";

impl Rehearse {
    pub(super) fn run(self) -> Outcome {
        let beacon = match self.beacon {
            Beacon::None => RehearsalBeacon::None,
            Beacon::Local => RehearsalBeacon::Local,
            Beacon::Quicknet => RehearsalBeacon::Published(published_round()),
        };
        let dir = |e: std::io::Error| fail(Failure::Runtime, &format!("{}: cannot be made: {e}", self.out.display()));
        fs::create_dir_all(&self.out).map_err(dir)?;
        if fs::read_dir(&self.out).map_err(dir)?.next().is_some() {
            let what =
                format!("{} is not empty; name a new directory, so that nothing of yours is written over", self.out.display());
            return Err(fail(Failure::Usage, &what));
        }
        let working = Working::on("inventing and drawing");
        let sale = Rehearsal { entries: self.entries as usize, seed: self.seed, beacon, window: self.window }.run();
        working.now("writing");
        write(&self.out.join("entries.csv"), &entries::write(&sale.listed.entries, &sale.listed.places))?;
        write_json(&self.out.join("transcript.json"), &sale.transcript)?;
        for receipt in &sale.receipts {
            write_json(&self.out.join(format!("receipt-{}.json", receipt.index)), receipt)?;
        }
        drop(working);
        let (t, out) = (&sale.transcript, self.out.display());
        if self.json {
            let receipts: Vec<u64> = sale.receipts.iter().map(|r| r.index).collect();
            return say(&json!({ "sale_id": t.draw_id(), "n": t.n, "out": self.out, "receipts": receipts }).to_string());
        }
        say(&format!(
            "invented {}: {} entries, drawn, with {} receipts, in {out}\ncheck it: tidegate draw verify {out}/transcript.json",
            t.draw_id(),
            t.n,
            sale.receipts.len()
        ))
    }
}
