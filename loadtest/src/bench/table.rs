//! Figures as people and programs read them. Ratios come from the same round, so that a noisy neighbour hits both alike.

use std::fmt::Write as _;

use serde::Serialize;

use super::memory::{Memory, ROOM_BYTES_MAX};

/// What a row is compared within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// A request that goes to the upstream and comes back.
    Proxied,
    /// An answer the server gives by itself.
    Local,
}

/// One thing that was measured; the first row of a group is what the others are divided by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What.
    pub name: String,
    /// Compared with its like.
    pub group: Group,
    /// Microseconds of CPU a request, round by round; empty when it was left out.
    pub rounds: Vec<f64>,
    /// Requests answered right.
    pub answers: u64,
    /// Anything else: the row is then not valid.
    pub errors: u64,
    /// Times the first row of the group: at most this is promised.
    pub target: Option<f64>,
    /// Why it was left out.
    pub left_out: Option<String>,
}

/// Everything of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Where this was.
    pub machine: String,
    /// Seconds a round.
    pub seconds: f64,
    /// Rows in order.
    pub rows: Vec<Row>,
    /// People in a room.
    pub room: Memory,
    /// Keys of a quota.
    pub keys: Memory,
    /// Milliseconds from the start of the gate's process until it was ready, each start.
    pub ready_ms: Vec<f64>,
}

/// The middle, the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// Lowest.
    pub low: f64,
    /// Highest.
    pub high: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let n = sorted.len();
        Some(Spread { median: (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0, low, high })
    }
}

impl Report {
    /// Round by round: this row divided by the first of its group.
    pub fn ratio(&self, row: &Row) -> Option<Spread> {
        let base = self.rows.iter().find(|r| r.group == row.group)?;
        let ratios: Vec<f64> = row.rounds.iter().zip(&base.rounds).map(|(a, b)| a / b).collect();
        Spread::of(&ratios)
    }

    /// No wrong answer anywhere.
    pub fn is_valid(&self) -> bool {
        self.rows.iter().all(|r| r.errors == 0)
    }

    /// For the README.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        for (group, title) in [(Group::Proxied, "CPU per proxied request"), (Group::Local, "CPU per answer of its own")] {
            let _ =
                writeln!(out, "| {title} | × Pingora alone | lowest – highest | µs here | at most |\n|---|---:|---:|---:|---:|");
            for row in self.rows.iter().filter(|r| r.group == group) {
                let _ = writeln!(out, "{}", self.line(row));
            }
            out.push('\n');
        }
        let mib = |b: u64| b as f64 / f64::from(1 << 20);
        let (room, keys) = (self.room, self.keys);
        let _ = writeln!(
            out,
            "| memory and start | measured | computed | at most |\n|---|---:|---:|---:|\n\
             | {} people in a waiting room | {:.1} MiB | {:.1} MiB | {:.0} MiB |\n\
             | a key of `visitor_rate` ({} keys) | {:.1} B | {:.0} B | bounded by `keys_max` |",
            thousands(room.count),
            mib(room.measured),
            mib(room.computed),
            mib(ROOM_BYTES_MAX),
            thousands(keys.count),
            keys.each(),
            keys.computed as f64 / f64::from(keys.count.max(1)),
        );
        if let Some(s) = Spread::of(&self.ready_ms) {
            let _ = writeln!(out, "| start of the process to ready | {:.0} ms (highest {:.0}) | – | 1000 ms |", s.median, s.high);
        }
        let rounds = self.rows.iter().map(|r| r.rounds.len()).max().unwrap_or(0);
        let _ = writeln!(
            out,
            "\n{rounds} rounds of {} s for each row, rows interleaved, medians; {} kept connections, two workers each, an upstream page of \
             1 KiB, all on loopback of one machine ({}). Read the ratios: microseconds are this machine's.",
            self.seconds,
            super::load::CONNECTIONS,
            self.machine
        );
        out
    }

    fn line(&self, row: &Row) -> String {
        if let Some(why) = &row.left_out {
            return format!("| {} | left out: {why} | | | |", row.name);
        }
        let (Some(ratio), Some(us)) = (self.ratio(row), Spread::of(&row.rounds)) else {
            return format!("| {} | not measured | | | |", row.name);
        };
        let target = match row.target {
            Some(t) if ratio.median > t => format!("{t:.2} (missed)"),
            Some(t) => format!("{t:.2}"),
            None => "–".into(),
        };
        let name = if row.errors > 0 { format!("{} – INVALID, {} errors", row.name, row.errors) } else { row.name.clone() };
        format!("| {name} | {:.2} | {:.2} – {:.2} | {:.1} | {target} |", ratio.median, ratio.low, ratio.high, us.median)
    }
}

fn thousands(n: u32) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(name: &str, rounds: &[f64], target: Option<f64>) -> Row {
        Row { name: name.into(), group: Group::Proxied, rounds: rounds.into(), answers: 9, errors: 0, target, left_out: None }
    }

    fn report() -> Report {
        let memory = Memory { count: 1_000_000, computed: 4_000_000, measured: 5 << 20 };
        let rows = vec![row("bare", &[10.0, 20.0, 10.0], None), row("gate", &[11.0, 30.0, 12.0], Some(1.10))];
        Report { machine: "m".into(), seconds: 2.0, rows, room: memory, keys: memory, ready_ms: vec![40.0, 60.0] }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let r = report();
        assert_eq!(r.ratio(&r.rows[1]), Some(Spread { median: 1.2, low: 1.1, high: 1.5 }));
        assert_eq!(Spread::of(&[1.0, 3.0]).unwrap().median, 2.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_table_says_what_was_missed_left_out_or_wrong() {
        let mut r = report();
        assert!(r.markdown().contains("| gate | 1.20 | 1.10 – 1.50 | 12.0 | 1.10 (missed) |"), "{}", r.markdown());
        assert!(r.markdown().contains("1,000,000 people"));
        r.rows[1].left_out = Some("nginx is not installed".into());
        assert!(r.markdown().contains("left out: nginx is not installed"));
        r.rows[0].errors = 2;
        assert!(!r.is_valid() && r.markdown().contains("INVALID, 2 errors"));
    }
}
