//! Where documents lie in shared memory. Only the poller writes here: the document first, then the
//! few bytes that say which ones are there, so that a worker with nothing to take reads only those.

use ombre_policy::document::{Kind, Revision};

use crate::host::SharedMemory;

const LATEST: &str = "ombre/latest";

/// The revisions that lie in shared memory; zero for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latest {
    /// The policy's.
    pub policy: Revision,
    /// The decisions'.
    pub decisions: Revision,
}

impl Latest {
    /// What lies there now.
    pub fn read(memory: &impl SharedMemory) -> Self {
        let (value, _) = memory.read(LATEST);
        let mut numbers = numbers(value.as_deref().unwrap_or_default());
        Self {
            policy: Revision::new(numbers.next().unwrap_or_default()),
            decisions: Revision::new(numbers.next().unwrap_or_default()),
        }
    }

    /// The revision of one kind.
    pub fn of(&self, kind: Kind) -> Revision {
        match kind {
            Kind::Policy => self.policy,
            Kind::Decisions => self.decisions,
        }
    }
}

/// The sealed document of this kind, if there is one.
pub fn document(memory: &impl SharedMemory, kind: Kind) -> Option<Vec<u8>> {
    memory.read(key(kind)).0
}

/// Lays a sealed document there and says so.
pub fn put(memory: &impl SharedMemory, kind: Kind, revision: Revision, sealed: &[u8]) {
    let mut latest = Latest::read(memory);
    match kind {
        Kind::Policy => latest.policy = revision,
        Kind::Decisions => latest.decisions = revision,
    }
    memory.write(key(kind), sealed, None);
    let bytes = bytes(&[latest.policy.get(), latest.decisions.get()]);
    memory.write(LATEST, &bytes, None);
}

/// The numbers as they lie in shared memory: little endian, one after the other.
pub(crate) fn bytes(numbers: &[u64]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

/// Reads what `bytes` wrote.
pub(crate) fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (chunks, _) = bytes.as_chunks::<8>();
    chunks.iter().map(|chunk| u64::from_le_bytes(*chunk))
}

const fn key(kind: Kind) -> &'static str {
    match kind {
        Kind::Policy => "ombre/policy",
        Kind::Decisions => "ombre/decisions",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn what_is_put_is_found_with_its_revision() {
        let fake = Fake::default();
        assert_eq!(Latest::read(&fake), Latest::default());
        put(&fake, Kind::Policy, Revision::new(5), b"p");
        put(&fake, Kind::Decisions, Revision::new(6), b"d");
        let latest = Latest::read(&fake);
        assert_eq!(latest.of(Kind::Policy), Revision::new(5));
        assert_eq!(latest.of(Kind::Decisions), Revision::new(6));
        assert_eq!(document(&fake, Kind::Policy).as_deref(), Some(&b"p"[..]));
    }

    #[test]
    fn damaged_memory_reads_as_nothing() {
        let fake = Fake::default();
        fake.write(LATEST, b"short", None);
        assert_eq!(Latest::read(&fake), Latest::default());
    }
}
