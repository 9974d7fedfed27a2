//! What was measured, as percentiles in a table.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

const SHARES: [f64; 4] = [0.5, 0.9, 0.99, 1.0];

/// Rows of measured durations.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    /// In ascending order.
    samples: Vec<Duration>,
}

impl Table {
    /// Adds what was measured under a name.
    pub(crate) fn add(&mut self, name: String, mut samples: Vec<Duration>) {
        samples.sort_unstable();
        self.rows.push(Row { name, samples });
    }

    /// The table in Markdown, in milliseconds.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            "| milliseconds | n | p50 | p90 | p99 | max |\n| --- | --- | --- | --- | --- | --- |\n"
                .to_owned();
        for row in &self.rows {
            write!(text, "| {} | {} |", row.name, row.samples.len()).ok();
            for share in SHARES {
                write!(text, " {:.2} |", row.milliseconds(share)).ok();
            }
            text.push('\n');
        }
        text
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let [p50, p90, p99, max] = SHARES.map(|share| row.milliseconds(share));
            json!({ "name": row.name, "n": row.samples.len(), "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "max_ms": max })
        });
        rows.collect()
    }
}

impl Row {
    fn milliseconds(&self, share: f64) -> f64 {
        self.percentile(share).as_secs_f64() * 1e3
    }

    /// The smallest sample that `share` of all do not exceed (nearest rank).
    fn percentile(&self, share: f64) -> Duration {
        let rank = (share * self.samples.len() as f64).ceil() as usize;
        let sample = self.samples.get(rank.saturating_sub(1));
        sample.copied().unwrap_or_default()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<52} {:>6} {:>9} {:>9} {:>9} {:>9}",
            "milliseconds", "n", "p50", "p90", "p99", "max"
        )?;
        for row in &self.rows {
            write!(f, "{:<52} {:>6}", row.name, row.samples.len())?;
            for share in SHARES {
                write!(f, " {:>9.2}", row.milliseconds(share))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Table;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut table = Table::default();
        let samples = (1..=200).rev().map(Duration::from_millis).collect();
        table.add("a".to_owned(), samples);
        let row = &table.rows[0];
        for (share, due) in [(0.5, 100), (0.9, 180), (0.99, 198), (1.0, 200)] {
            assert_eq!(row.percentile(share), Duration::from_millis(due), "{share}");
        }
    }
}
