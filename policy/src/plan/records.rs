//! Lists of records of plain numbers, which travel as the bytes they are: a worker that takes a
//! plan copies them and reads no number by itself.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Records of `N` numbers each, one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Records<const N: usize> {
    /// A multiple of `N` of them.
    words: Vec<u32>,
}

impl<const N: usize> Records<N> {
    pub(super) fn get(&self, at: usize) -> Option<&[u32; N]> {
        self.records().get(at)
    }

    pub(super) fn len(&self) -> usize {
        self.records().len()
    }

    fn records(&self) -> &[[u32; N]] {
        let (records, _) = self.words.as_chunks();
        records
    }
}

impl<const N: usize> Serialize for Records<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self
            .words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Records<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(RecordsVisitor)
    }
}

struct RecordsVisitor<const N: usize>;

impl<const N: usize> Visitor<'_> for RecordsVisitor<N> {
    type Value = Records<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "records of {N} numbers")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        let (words, rest) = bytes.as_chunks();
        if !rest.is_empty() || words.len() % N != 0 {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        let words = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        Ok(Records { words })
    }
}

#[cfg(feature = "load")]
impl<const N: usize> Records<N> {
    /// Empty records in which `set` may write.
    pub(super) fn zeros(length: usize) -> Self {
        Self {
            words: vec![0; length.saturating_mul(N)],
        }
    }

    pub(super) fn set(&mut self, at: usize, record: [u32; N]) {
        let (records, _) = self.words.as_chunks_mut();
        if let Some(place) = records.get_mut(at) {
            *place = record;
        }
    }

    pub(super) fn push(&mut self, record: [u32; N]) {
        self.words.extend(record);
    }
}

#[cfg(all(test, feature = "load"))]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let mut records = Records::<2>::zeros(1);
        records.set(0, [1, u32::MAX]);
        records.set(1, [9, 9]);
        records.push([3, 4]);
        let bytes = postcard::to_allocvec(&records).unwrap();
        let read: Records<2> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(read, records);
        assert_eq!(
            (read.len(), read.get(0), read.get(1), read.get(2)),
            (2, Some(&[1, u32::MAX]), Some(&[3, 4]), None)
        );
        assert!(postcard::from_bytes::<Records<3>>(&bytes).is_err());
        assert!(postcard::from_bytes::<Records<2>>(&bytes[..bytes.len() - 1]).is_err());
    }
}
