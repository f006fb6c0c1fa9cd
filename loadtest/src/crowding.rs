//! A mass entry, live: programs with as many identities as there are people, four times and ten times as many. Who gets the
//! units?

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tidegate_filters::{
    seats::draw::{entries, entry::Entry},
    units::Span,
};

use crate::{
    capacity::Capacity,
    crowd::{Bots, Kind, Scenario, Squad},
    demo::{Defence, DemoError, DemoOptions, RunResult, find_capacity, gated},
    fairness::Point,
    shop::ShopSettings,
};

/// Identities for each person, and what the gate does about them.
const ROWS: [(u32, Defence); 13] = [
    (1, Defence::None),
    (1, Defence::Weights),
    (1, Defence::Rendered),
    (1, Defence::Quotas),
    (1, Defence::All),
    (4, Defence::Weights),
    (4, Defence::Rendered),
    (4, Defence::Quotas),
    (4, Defence::All),
    (10, Defence::Weights),
    (10, Defence::Rendered),
    (10, Defence::Quotas),
    (10, Defence::All),
];
/// People for each unit, as in the demo.
const PEOPLE_A_UNIT: u32 = 3;
/// Most people: with ten identities for each, everybody is a task and a socket.
const PEOPLE_MAX: u32 = 1_000;

/// Arguments of `crowding`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  tidegate-loadtest crowding --gate target/release/tidegate\n  \
    tidegate-loadtest crowding --gate target/release/tidegate --people 200 --seed 7 --json")]
pub struct CrowdingArgs {
    /// The gate's program.
    #[arg(long)]
    gate: PathBuf,
    /// People; there are as many units as a third of them.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(30..=i64::from(PEOPLE_MAX)))]
    people: u32,
    /// Seed of the crowd.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory for journals and crowding.json.
    #[arg(long, default_value = ".demo/crowding")]
    out: PathBuf,
    /// Only rows of so many bot identities for each person: 1, 4 or 10
    #[arg(long)]
    times: Option<u32>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Bot identities for each person.
    pub times: u32,
    /// What the gate did about them.
    pub defence: Defence,
    /// Units sold, and those that people got.
    pub units: (u32, u32),
    /// The first places, as many as units, and those that people have; without a draw: of who came first.
    pub first: (u64, u64),
    /// Balls in the drum, and those of people: what their share of first places is on average. `None` without a draw.
    pub balls: Option<(u64, u64)>,
    /// Answers to people that refused, throttled or challenged them.
    pub people_refused: u64,
    /// Entries of the draw; `None` without one.
    pub entries: Option<u64>,
    /// Rules of the room that were broken, units oversold, and whether a stranger can recompute the draw.
    pub broken: Vec<String>,
}

/// Runs all rows; `say` gets each line meant for the user.
pub async fn run(args: &CrowdingArgs, say: fn(&str)) -> anyhow::Result<ExitCode> {
    let gate = args.gate.canonicalize().with_context(|| format!("{} is not there; build it first", args.gate.display()))?;
    let own = std::env::current_exe().context("finding this program")?;
    let shop = ShopSettings { stock: args.people / PEOPLE_A_UNIT, ..ShopSettings::default() };
    let options = |times: u32, defence: Defence| DemoOptions {
        gate: gate.clone(),
        own: own.clone(),
        out: args.out.join(format!("{times}-{}", name(defence).replace(' ', "-"))),
        scenario: scenario(args.people, times, defence),
        seed: args.seed,
        shop: shop.clone(),
        defence,
    };
    let capacity = find_capacity(&options(1, Defence::None)).await?;
    let mut rows = Vec::new();
    let wanted: Vec<_> = ROWS.into_iter().filter(|(times, _)| args.times.is_none_or(|t| t == *times)).collect();
    anyhow::ensure!(!wanted.is_empty(), "--times: there are rows of 1, 4 and 10 identities for each person");
    for (i, (times, defence)) in wanted.iter().copied().enumerate() {
        if !args.json {
            say(&format!("{}/{}  {times} identities for each person, {}", i + 1, wanted.len(), name(defence)));
        }
        rows.push(one(&options(times, defence), times, &capacity).await?);
    }
    std::fs::write(args.out.join("crowding.json"), serde_json::to_string_pretty(&rows)?)
        .with_context(|| format!("writing into {}", args.out.display()))?;
    say(&if args.json { serde_json::to_string_pretty(&rows)? } else { table(&rows) });
    let broken: Vec<_> = rows.iter().flat_map(|r| &r.broken).collect();
    broken.iter().for_each(|b| say(&format!("BROKEN PROMISE – {b}")));
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn one(options: &DemoOptions, times: u32, capacity: &Capacity) -> Result<Row, DemoError> {
    std::fs::create_dir_all(&options.out)
        .map_err(|source| DemoError::Io { what: format!("making {}", options.out.display()), source })?;
    let run = gated(options, capacity).await?;
    let weights = match run.draw {
        Some(_) => Some(weights(&options.out.join("draw").join("entries.csv"))?),
        None => None,
    };
    Ok(row(times, options.defence, &run, weights.as_ref()))
}

/// Weights of the published list, by place.
fn weights(file: &Path) -> Result<BTreeMap<u64, u64>, DemoError> {
    let wrong = |why: String| DemoError::Draw(format!("{}: {why}", file.display()));
    let text = std::fs::read(file).map_err(|e| wrong(e.to_string()))?;
    let listed = entries::read(&text).map_err(|e| wrong(e.to_string()))?;
    let weight = |(place, entry): (&Option<u32>, &Entry)| place.map(|p| (p.into(), entry.weight.into()));
    Ok(listed.places.iter().zip(&listed.entries).filter_map(weight).collect())
}

fn row(times: u32, defence: Defence, run: &RunResult, weights: Option<&BTreeMap<u64, u64>>) -> Row {
    let turned_away = &run.summary.turned_away_people;
    let refused =
        turned_away.iter().filter(|(verdict, _)| !matches!(verdict.as_str(), "wait" | "sold_out")).map(|(_, n)| n).sum();
    let mut broken = run.judged.violations.clone();
    if run.shop.oversold > 0 {
        broken.push(format!("{} units oversold", run.shop.oversold));
    }
    broken.extend(run.draw.iter().flat_map(|d| d.faults.clone()));
    let first = run.fairness.as_ref().map_or((0, 0), |f| f.top_people());
    let balls = weights.zip(run.fairness.as_ref()).map(|(weights, fair)| {
        let of = |p: &Point| weights.get(&p.place).copied().unwrap_or(0);
        (fair.points.iter().map(of).sum(), fair.points.iter().filter(|p| p.person).map(of).sum())
    });
    Row {
        times,
        defence,
        balls,
        units: (run.units_delivered(), run.units_to_people()),
        first: (first.1, first.0),
        people_refused: refused,
        entries: run.draw.as_ref().map(|d| d.entries),
        broken,
    }
}

/// The people of the demo, and in the place of its bots four squads of the same size with `times` identities for each person.
/// No model has met the mimic. Who has an identity keeps its cookies, so plain scripts have none.
fn scenario(people: u32, times: u32, defence: Defence) -> Scenario {
    let mut scenario = Scenario::builtin("drop-day").unwrap_or_else(|| unreachable!("it is part of the program"));
    "crowding".clone_into(&mut scenario.name);
    scenario.spread = true;
    scenario.people.count = people;
    if defence == Defence::None {
        scenario.freezes_at = None;
    }
    let count = people * times / 4;
    let squad = |every_ms: u64, addresses: u32| Squad {
        count,
        every: Span(every_ms),
        from: Span::secs(3),
        patience: Span::secs(10),
        units_max: 1,
        addresses,
    };
    scenario.bots = vec![
        Bots::HeaderCopier(squad(1_000, 1)),
        Bots::ManyAddresses(squad(800, 10)),
        Bots::SlowAndLow(squad(3_000, 1)),
        Bots::JitteredMimic(squad(1_200, 1)),
    ];
    scenario
}

fn name(defence: Defence) -> &'static str {
    match defence {
        Defence::Full => "challenges",
        Defence::None => "no scores, first come first served",
        Defence::Weights => "scores, drawn by weight",
        Defence::Quotas => "scores and quotas, drawn by weight",
        Defence::Rendered => "scores and the page's style, drawn by weight",
        Defence::All => "scores, quotas and the page's style, drawn by weight",
    }
}

/// Markdown.
fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| bot identities | the gate | units to people | first places to people | balls of people | people refused |\n|---:|---|---:|---:|---:|---:|\n",
    );
    let share = |(all, people): (u64, u64)| match all {
        0 => "–".to_owned(),
        _ => format!("{people} of {all} ({:.0} %)", 100.0 * people as f64 / all as f64),
    };
    for r in rows {
        let units = share((r.units.0.into(), r.units.1.into()));
        let balls =
            r.balls.map_or("–".to_owned(), |(all, people)| format!("{:.0} %", 100.0 * people as f64 / all.max(1) as f64));
        let _ = writeln!(
            out,
            "| {} × people | {} | {units} | {} | {balls} | {} |",
            r.times,
            name(r.defence),
            share(r.first),
            r.people_refused
        );
    }
    let families = [Kind::HeaderCopier, Kind::ManyAddresses, Kind::SlowAndLow, Kind::JitteredMimic].map(Kind::name);
    let _ = write!(
        out,
        "\nBots: {}, as many of each; one unit for an identity, and for {PEOPLE_A_UNIT} people.",
        families.join(", ")
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_are_as_many_as_is_said_and_fit_into_a_crowd() {
        for (times, defence) in ROWS {
            let s = scenario(PEOPLE_MAX, times, defence);
            let bots: u32 = s.bots.iter().map(|b| b.squad().count).sum();
            assert_eq!(bots, PEOPLE_MAX * times);
            assert!(bots + PEOPLE_MAX <= crate::crowd::VISITORS_MAX);
            assert_eq!(s.freezes_at.is_some(), defence != Defence::None);
        }
        let row = Row {
            times: 4,
            defence: Defence::Weights,
            units: (100, 80),
            first: (100, 75),
            balls: Some((1_000, 770)),
            people_refused: 0,
            entries: Some(1_500),
            broken: vec![],
        };
        assert!(
            table(&[row]).contains("| 4 × people | scores, drawn by weight | 80 of 100 (80 %) | 75 of 100 (75 %) | 77 % | 0 |")
        );
    }
}
