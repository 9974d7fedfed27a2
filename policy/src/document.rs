//! The envelope in which the controller hands documents to the filters. A document is taken
//! whole, newer and valid, or not at all; everything that says so is here.
//!
//! Layout, little endian: `OMBR`, format (u8), kind (u8), zero (u16), revision (u64),
//! policy revision (u64), XXH64 (u64) of the 24 bytes before it and the body, then the body.

mod pair;

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::Xxh64;

pub use pair::{Pair, join, split};

/// The only format this build reads and writes. It changes when a body's encoding changes.
pub const FORMAT: u8 = 1;

const MAGIC: [u8; 4] = *b"OMBR";
const SUM_AT: usize = 24;
const BODY_AT: usize = 32;

/// When a document was published: Unix milliseconds, raised by one where the clock would not
/// have made it larger than the revision before it. Zero is older than every document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revision(u64);

/// Which of the two documents an envelope holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The plan, with the decisions that were in force when it was published.
    Policy,
    /// Decisions alone, made for the plan of one policy revision.
    Decisions,
}

/// A document whose envelope was found whole and undamaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// What the body is.
    pub kind: Kind,
    /// The document's own revision.
    pub revision: Revision,
    /// The policy revision it belongs to; for a policy the same as `revision`.
    pub policy_revision: Revision,
    /// The encoded plan or decisions.
    pub body: &'a [u8],
}

/// Why bytes are not a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Shorter than the envelope's head.
    #[error("{0} bytes are too few for a document")]
    Short(usize),
    /// The first four bytes are not `OMBR`.
    #[error("not an ombre document")]
    Magic,
    /// Written by a controller that speaks another format.
    #[error("format {0} is not the format {FORMAT} that this build reads")]
    Format(u8),
    /// Neither a policy nor decisions.
    #[error("document kind {0} is unknown")]
    Kind(u8),
    /// Cut off or damaged on the way.
    #[error("the checksum does not match: the document is cut off or damaged")]
    Checksum,
    /// Two documents that are no policy with decisions for it.
    #[error("the two documents are not a policy and decisions for it")]
    Pair,
    /// The envelope is whole, but its body cannot be decoded.
    #[error("the body cannot be decoded")]
    Body,
}

impl Revision {
    /// The revision with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number as it stands in URLs and in the envelope.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision for a document published at `unix_ms` after this one.
    pub const fn next(self, unix_ms: u64) -> Self {
        let least = self.0.saturating_add(1);
        Self(if unix_ms > least { unix_ms } else { least })
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Policy => 1,
            Self::Decisions => 2,
        }
    }

    /// The name in URLs, shared data keys and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Decisions => "decisions",
        }
    }
}

/// Puts a body into its envelope.
pub fn seal(kind: Kind, revision: Revision, policy_revision: Revision, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(BODY_AT + body.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[FORMAT, kind.code(), 0, 0]);
    out.extend_from_slice(&revision.get().to_le_bytes());
    out.extend_from_slice(&policy_revision.get().to_le_bytes());
    let sum = checksum(&out, body);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// Opens an envelope.
///
/// # Errors
/// When the bytes are not one whole, undamaged document of this build's format.
pub fn open(bytes: &[u8]) -> Result<Document<'_>, DocumentError> {
    let short = DocumentError::Short(bytes.len());
    let (head, rest) = bytes.split_at_checked(SUM_AT).ok_or(short)?;
    let (sum, body) = rest.split_at_checked(BODY_AT - SUM_AT).ok_or(short)?;
    let [m0, m1, m2, m3, format, kind, _, _, numbers @ ..] = head else {
        return Err(short);
    };
    if [*m0, *m1, *m2, *m3] != MAGIC {
        return Err(DocumentError::Magic);
    }
    if *format != FORMAT {
        return Err(DocumentError::Format(*format));
    }
    let kind = match *kind {
        1 => Kind::Policy,
        2 => Kind::Decisions,
        other => return Err(DocumentError::Kind(other)),
    };
    if le_u64(sum) != Some(checksum(head, body)) {
        return Err(DocumentError::Checksum);
    }
    let (revision, policy_revision) = numbers.split_at_checked(8).ok_or(short)?;
    Ok(Document {
        kind,
        revision: Revision::new(le_u64(revision).ok_or(short)?),
        policy_revision: Revision::new(le_u64(policy_revision).ok_or(short)?),
        body,
    })
}

fn checksum(head: &[u8], body: &[u8]) -> u64 {
    let mut hash = Xxh64::new(0);
    hash.update(head);
    hash.update(body);
    hash.digest()
}

fn le_u64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const REVISION: Revision = Revision::new(1_700_000_000_123);

    fn sealed() -> Vec<u8> {
        seal(Kind::Decisions, REVISION, Revision::new(7), b"body")
    }

    #[test]
    fn what_was_sealed_opens() {
        let bytes = sealed();
        let document = open(&bytes).expect("a sealed document opens");
        assert_eq!(document.kind, Kind::Decisions);
        assert_eq!(document.revision, REVISION);
        assert_eq!(document.policy_revision, Revision::new(7));
        assert_eq!(document.body, b"body");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_refused() {
        let bytes = sealed();
        for end in 0..bytes.len() {
            assert!(open(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(open(&damaged).is_err(), "bit flipped at {at}");
        }
    }

    #[test]
    fn revisions_only_grow() {
        assert_eq!(Revision::new(5).next(9), Revision::new(9));
        assert_eq!(
            Revision::new(9).next(5),
            Revision::new(10),
            "a clock set back"
        );
        assert_eq!(Revision::new(u64::MAX).next(5), Revision::new(u64::MAX));
    }
}
