//! The rules that ask for a degrade, and the comparison that must agree. Each is a pure function
//! that returns its whole account: values, bounds, and whether it holds at this judgement.

pub mod outage;
pub mod relative;
pub mod score;
pub mod sustained;

use std::fmt;

use serde::{Deserialize, Serialize};

/// A rule over evidence that asks for a degrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The fast total failure.
    Outage,
    /// The ratios of §4.3 over their limits for long enough.
    Sustained,
    /// The weighted score of §4.1.
    Score,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outage => "outage",
            Self::Sustained => "sustained",
            Self::Score => "score",
        })
    }
}

#[cfg(test)]
mod tests;
