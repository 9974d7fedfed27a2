//! A regex over one whole path segment, compiled to a sparse DFA that travels as bytes and matches without allocation.
//! Compiling needs the feature `load`; reading and matching do not, and are all the filter has.

use core::fmt;

use regex_automata::Anchored;
use regex_automata::dfa::{Automaton, sparse::DFA};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A compiled pattern. It matches a segment as a whole, byte by byte, never a part of it.
#[derive(Clone)]
pub struct Pattern {
    /// Reports a match only for what it has read to the end, see `matches`.
    dfa: DFA<Vec<u8>>,
    /// Where every match starts; known to exist once the pattern is read.
    start: StateID,
    /// What the automaton was read from, kept because it can be written only where it was compiled.
    bytes: Vec<u8>,
}

/// Why a pattern cannot be compiled or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text is no regex, or uses what patterns do not have: look-around, references, Unicode classes.
    #[error("the regex `{regex}` cannot be read: {reason}")]
    Syntax {
        /// The text.
        regex: String,
        /// What the regex parser says.
        reason: String,
    },
    /// The regex or its automaton is larger than a segment can need.
    #[error(
        "the regex `{regex}` takes more than {limit}, simplify it: lower its repetition counts first"
    )]
    TooLarge {
        /// The text, its beginning if it is long.
        regex: String,
        /// What it takes too much of.
        limit: &'static str,
    },
    /// The bytes are no compiled pattern of this version.
    #[error("the compiled pattern is damaged or of another version, compile the policy again")]
    Damaged,
}

impl Pattern {
    /// Reads what [`Pattern::as_bytes`] gave. Any bytes are safe: they are checked before they are used.
    ///
    /// # Errors
    /// [`PatternError::Damaged`] if they are anything else.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Pattern, PatternError> {
        let (dfa, read) = DFA::from_bytes(&bytes).map_err(|_| PatternError::Damaged)?;
        if read != bytes.len() {
            return Err(PatternError::Damaged);
        }
        let start = dfa.start_state(&start::Config::new().anchored(Anchored::Yes));
        let start = start.map_err(|_| PatternError::Damaged)?;
        Ok(Pattern {
            start,
            dfa: dfa.to_owned(),
            bytes,
        })
    }

    /// The compiled pattern as bytes, little endian on every machine.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the pattern matches the whole segment. Takes one step per byte.
    #[must_use]
    pub fn matches(&self, segment: &[u8]) -> bool {
        // The DFA follows every alternative at once (`MatchKind::All`), so the state behind the last byte
        // tells whether any of them ends exactly there. A search would stop at the one it prefers.
        let mut state = self.start;
        for &byte in segment {
            state = self.dfa.next_state(state, byte);
            if self.dfa.is_dead_state(state) {
                return false;
            }
        }
        self.dfa.is_match_state(self.dfa.next_eoi_state(state))
    }
}

#[cfg(feature = "load")]
mod compile {
    use regex_automata::MatchKind;
    use regex_automata::dfa::{StartKind, dense};
    use regex_automata::nfa::thompson;
    use regex_automata::util::syntax;

    use super::{Pattern, PatternError};

    /// Longest regex in bytes.
    const MAX_REGEX: usize = 512;
    /// Largest automaton, while it is built and when it is done, in bytes. A UUID pattern takes about 4 KiB.
    const MAX_AUTOMATON: usize = 256 * 1024;
    /// How much of a regex that is too long an error shows, in characters.
    const SHOWN: usize = 40;

    impl Pattern {
        /// Compiles a regex, in the syntax of the `regex` crate over bytes: no Unicode classes, `.` is any byte but a
        /// line break, letters beyond ASCII stand for their UTF-8 bytes. It need not be anchored.
        ///
        /// # Errors
        /// [`PatternError::Syntax`] with what the parser says, [`PatternError::TooLarge`] for a regex above 512 bytes
        /// or an automaton above 256 KiB.
        pub fn compile(regex: &str) -> Result<Pattern, PatternError> {
            if regex.len() > MAX_REGEX {
                let shown = format!("{}..", regex.chars().take(SHOWN).collect::<String>());
                return Err(PatternError::TooLarge {
                    regex: shown,
                    limit: "512 bytes",
                });
            }
            let bytes = syntax::Config::new().unicode(false).utf8(false);
            let unreadable = |reason| PatternError::Syntax {
                regex: regex.to_owned(),
                reason,
            };
            // The builder below would wrap what the parser says; asked alone it says it plainly.
            let parsed = syntax::parse_with(regex, &bytes)
                .map_err(|error| unreadable(reason(&error.to_string())))?;
            // The one thing that parses and no automaton can have; every other failure below is one of size.
            if parsed.properties().look_set().contains_word_unicode() {
                return Err(unreadable(
                    "Unicode word boundaries are not supported".to_owned(),
                ));
            }
            let large = || PatternError::TooLarge {
                regex: regex.to_owned(),
                limit: "256 KiB when compiled",
            };
            let dfa = dense::Builder::new()
                .syntax(bytes)
                .thompson(
                    thompson::Config::new()
                        .utf8(false)
                        .nfa_size_limit(Some(MAX_AUTOMATON)),
                )
                .configure(
                    dense::Config::new()
                        .match_kind(MatchKind::All)
                        .start_kind(StartKind::Anchored)
                        .accelerate(false)
                        .determinize_size_limit(Some(MAX_AUTOMATON))
                        .dfa_size_limit(Some(MAX_AUTOMATON)),
                )
                .build(regex)
                .map_err(|_| large())?;
            Pattern::from_bytes(
                dfa.to_sparse()
                    .map_err(|_| large())?
                    .to_bytes_little_endian(),
            )
        }
    }

    /// The one line that matters of a parser's message, which draws the regex and arrows above it.
    fn reason(message: &str) -> String {
        let line = message.lines().last().unwrap_or_default();
        line.strip_prefix("error: ").unwrap_or(line).to_owned()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Pattern({} bytes)", self.bytes.len())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Pattern {}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
        deserializer.deserialize_byte_buf(PatternBytes)
    }
}

/// Reads a pattern from the bytes of a document.
struct PatternBytes;

impl de::Visitor<'_> for PatternBytes {
    type Value = Pattern;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the bytes of a compiled pattern")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Pattern, E> {
        self.visit_byte_buf(bytes.to_vec())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Pattern, E> {
        Pattern::from_bytes(bytes).map_err(E::custom)
    }
}

#[cfg(test)]
#[cfg(feature = "load")]
mod tests;
