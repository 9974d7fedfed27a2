//! Spans and points of time: `Millis` as people write it (`800ms`, `30s`, `5m`, `1h`) and `Moment`.
//! No clock: every `Moment` comes in as an argument.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time in whole milliseconds.
///
/// Written as a number and one unit: `ms`, `s`, `m` or `h`. Binary formats carry the bare number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(u64);

/// A point in time: milliseconds since the Unix epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment(u64);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is not a whole number followed by a known unit.
    #[error(
        "`{0}` is not a duration; write a whole number and a unit, like `800ms`, `30s`, `5m`, `1h` or `30d`"
    )]
    Shape(String),
    /// The span does not fit into 64 bits of milliseconds.
    #[error("`{0}` is too long a duration")]
    Range(String),
}

impl Millis {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of `millis` milliseconds.
    #[must_use]
    pub const fn new(millis: u64) -> Self {
        Self(millis)
    }

    /// A span of `secs` seconds; the longest span there is if that does not fit.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Whole milliseconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Seconds, with fractions.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// This span `times` times, at most the longest span there is.
    #[must_use]
    pub const fn saturating_mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }

    /// Both spans one after the other, at most the longest span there is.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Moment {
    /// The moment `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_unix_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_millis(self) -> u64 {
        self.0
    }

    /// The time passed since `earlier`; zero if `earlier` is later, as after a clock was set back.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment `span` later.
    #[must_use]
    pub const fn after(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The moment `span` earlier, at least the Unix epoch.
    #[must_use]
    pub const fn before(self, span: Millis) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl FromStr for Millis {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = || DurationError::Shape(text.to_owned());
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(shape)?;
        let (number, unit) = text.split_at(unit_at);
        if number.is_empty() {
            return Err(shape());
        }
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(shape()),
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| DurationError::Range(text.to_owned()))
    }
}

impl fmt::Display for Millis {
    /// The largest unit that loses nothing: 90 s is `90s`, 120 s is `2m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            n if n % 3_600_000 == 0 => write!(f, "{}h", n / 3_600_000),
            n if n % 60_000 == 0 => write!(f, "{}m", n / 60_000),
            n if n % 1_000 == 0 => write!(f, "{}s", n / 1_000),
            n => write!(f, "{n}ms"),
        }
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        let cases: &[(&str, Option<u64>)] = &[
            ("0s", Some(0)),
            ("800ms", Some(800)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("30", None),
            ("s", None),
            ("-5s", None),
            ("1.5s", None),
            ("5 s", None),
            ("5S", None),
            ("5m30s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
            ("３s", None),
        ];
        for (text, expected) in cases {
            let parsed = text.parse::<Millis>();
            assert_eq!(parsed.as_ref().ok().map(|m| m.get()), *expected, "{text}");
        }
    }

    #[test]
    fn errors_quote_the_text_and_name_the_fix() {
        let error = "30".parse::<Millis>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`30` is not a duration; write a whole number and a unit, like `800ms`, `30s`, `5m`, `1h` or `30d`"
        );
    }

    #[test]
    fn binary_formats_carry_the_number() {
        let bytes = postcard::to_allocvec(&Millis::from_secs(1)).unwrap();
        assert_eq!(postcard::from_bytes::<Millis>(&bytes).unwrap().get(), 1000);
        assert_eq!(
            serde_json::to_string(&Millis::from_secs(90)).unwrap(),
            "\"90s\""
        );
    }

    #[test]
    fn a_clock_set_back_gives_zero_not_a_panic() {
        let early = Moment::from_unix_millis(5);
        assert_eq!(early.since(Moment::from_unix_millis(9)), Millis::ZERO);
        assert_eq!(early.before(Millis::new(9)), Moment::default());
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn what_is_printed_parses_back(n in any::<u64>()) {
                let span = Millis::new(n);
                prop_assert_eq!(span.to_string().parse::<Millis>(), Ok(span));
            }

            #[test]
            fn any_text_parses_or_is_refused(text in ".{0,24}") {
                let _ = text.parse::<Millis>();
            }
        }
    }
}
