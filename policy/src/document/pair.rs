//! Both documents in one piece, as a filter gets them that is configured over xDS: there is one
//! configuration, and it is taken whole or refused whole.
//!
//! Layout, little endian: `OMB2`, length of the sealed policy (u64), the sealed policy, and to the
//! end the sealed decisions.

use super::{DocumentError, Kind, open};

const MAGIC: [u8; 4] = *b"OMB2";
const HEAD: usize = 12;

/// A policy and decisions for it, both still sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The sealed policy.
    pub policy: &'a [u8],
    /// The sealed decisions, which are for this policy.
    pub decisions: &'a [u8],
}

/// Puts two sealed documents into one piece. Whether they belong together is for [`split`] to say.
pub fn join(policy: &[u8], decisions: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + policy.len() + decisions.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(policy.len() as u64).to_le_bytes());
    out.extend_from_slice(policy);
    out.extend_from_slice(decisions);
    out
}

/// Takes the piece apart, and makes sure of both envelopes; the bodies are decoded when they are taken.
///
/// # Errors
/// When it is not two whole, undamaged documents of this build's format that belong together.
pub fn split(bytes: &[u8]) -> Result<Pair<'_>, DocumentError> {
    let short = DocumentError::Short(bytes.len());
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(short)?;
    if *magic != MAGIC {
        return Err(DocumentError::Magic);
    }
    let (length, documents) = rest.split_first_chunk::<8>().ok_or(short)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| short)?;
    let (policy, decisions) = documents.split_at_checked(length).ok_or(short)?;
    let (first, second) = (open(policy)?, open(decisions)?);
    let kinds = (first.kind, second.kind) == (Kind::Policy, Kind::Decisions);
    if !kinds || second.policy_revision != first.revision {
        return Err(DocumentError::Pair);
    }
    Ok(Pair { policy, decisions })
}

#[cfg(test)]
mod tests {
    use super::super::{Revision, seal};
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn sealed(kind: Kind, revision: u64, policy: u64) -> Vec<u8> {
        let body = kind.name().as_bytes();
        seal(kind, Revision::new(revision), Revision::new(policy), body)
    }

    #[test]
    fn what_was_joined_splits() {
        let policy = sealed(Kind::Policy, 5, 5);
        let decisions = sealed(Kind::Decisions, 7, 5);
        let joined = join(&policy, &decisions);
        let pair = split(&joined).expect("they belong together");
        assert_eq!(pair.policy, policy);
        assert_eq!(pair.decisions, decisions);
    }

    #[test]
    fn documents_that_do_not_belong_together_are_refused() {
        let policy = sealed(Kind::Policy, 5, 5);
        let decisions = sealed(Kind::Decisions, 7, 5);
        for (name, first, second) in [
            ("twice the policy", &policy, &policy),
            ("twice the decisions", &decisions, &decisions),
            ("in the wrong order", &decisions, &policy),
            (
                "for another policy",
                &policy,
                &sealed(Kind::Decisions, 7, 4),
            ),
        ] {
            let joined = join(first, second);
            assert_eq!(split(&joined), Err(DocumentError::Pair), "{name}");
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_refused() {
        let joined = join(&sealed(Kind::Policy, 5, 5), &sealed(Kind::Decisions, 7, 5));
        for end in 0..joined.len() {
            assert!(split(&joined[..end]).is_err(), "cut at {end}");
        }
        for at in 0..joined.len() {
            let mut damaged = joined.clone();
            damaged[at] ^= 1;
            assert!(split(&damaged).is_err(), "bit flipped at {at}");
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    proptest::proptest! {
        #[test]
        fn any_bytes_split_or_are_refused(bytes: Vec<u8>) {
            let mut framed = MAGIC.to_vec();
            framed.extend_from_slice(&bytes);
            for bytes in [bytes, framed] {
                if let Ok(pair) = split(&bytes) {
                    proptest::prop_assert_eq!(join(pair.policy, pair.decisions), bytes);
                }
            }
        }
    }
}
