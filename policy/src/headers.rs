//! The request's headers as the proxy-wasm host hands them over: one buffer, read in place.
//! Names and values are bytes, because a client may send any; nothing here allocates or panics.
//!
//! Layout, little endian: count (u32), then per header the lengths of name and value (u32 each),
//! then per header the name, a zero, the value, a zero.

/// A header map in the host's serialization. A damaged buffer reads as far as it is sound.
#[derive(Clone, Copy, Debug)]
pub struct HeaderMap<'a> {
    lengths: &'a [u8],
    text: &'a [u8],
}

/// A header that may be sent once: what was found of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Single<'a> {
    /// Not sent.
    Absent,
    /// Sent once, or several times with one value.
    One(&'a [u8]),
    /// Sent with different values. Picking one would let a client set another's beside it.
    Conflict,
}

impl<'a> HeaderMap<'a> {
    /// Reads the host's buffer.
    pub fn new(bytes: &'a [u8]) -> Self {
        let parts = bytes.split_first_chunk::<4>().and_then(|(count, rest)| {
            let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
            rest.split_at_checked(count.checked_mul(8)?)
        });
        let (lengths, text) = parts.unwrap_or_default();
        Self { lengths, text }
    }

    /// The headers in the order in which they were sent.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let (pairs, _) = self.lengths.as_chunks::<8>();
        let mut text = self.text;
        pairs
            .iter()
            .map_while(move |[n0, n1, n2, n3, v0, v1, v2, v3]| {
                let name = take_text(&mut text, [*n0, *n1, *n2, *n3])?;
                let value = take_text(&mut text, [*v0, *v1, *v2, *v3])?;
                Some((name, value))
            })
    }

    /// Every value of a header; `name` in lower case.
    pub fn all(&self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.iter()
            .filter(move |(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// The value of a header that may be sent once; `name` in lower case.
    pub fn single(&self, name: &[u8]) -> Single<'a> {
        let mut found = Single::Absent;
        for (key, value) in self.iter() {
            if key == name {
                found = found.and(value);
            }
        }
        found
    }

    /// The host's serialization of these headers, for callers that are not the host.
    pub fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(headers: &[(N, V)]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&length(headers.len()));
        for (name, value) in headers {
            out.extend_from_slice(&length(name.as_ref().len()));
            out.extend_from_slice(&length(value.as_ref().len()));
        }
        for (name, value) in headers {
            for part in [name.as_ref(), value.as_ref()] {
                out.extend_from_slice(part);
                out.push(0);
            }
        }
        out
    }
}

impl<'a> Single<'a> {
    /// What is known after one more value was met.
    #[must_use]
    pub fn and(self, value: &'a [u8]) -> Self {
        match self {
            Self::Absent => Self::One(value),
            sent => sent.again(value),
        }
    }

    #[cold]
    fn again(self, value: &'a [u8]) -> Self {
        match self {
            Self::One(before) if before == value => self,
            _ => Self::Conflict,
        }
    }

    /// The value, if there is exactly one.
    pub fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::One(value) => Some(value),
            Self::Absent | Self::Conflict => None,
        }
    }
}

fn take_text<'a>(text: &mut &'a [u8], length: [u8; 4]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
    let (part, rest) = text.split_at_checked(length.checked_add(1)?)?;
    *text = rest;
    part.split_last().map(|(_zero, part)| part)
}

/// Lengths above 4 GiB cannot come from HTTP; they would be cut to the largest one.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn reads_what_it_encodes() {
        let headers = [(":path", &b"/a"[..]), ("x", b""), ("x", b"\xff\x00z")];
        let bytes = HeaderMap::encode(&headers);
        let map = HeaderMap::new(&bytes);
        let read: Vec<_> = map.iter().collect();
        assert_eq!(
            read,
            [
                (&b":path"[..], &b"/a"[..]),
                (b"x", b""),
                (b"x", b"\xff\x00z")
            ]
        );
        assert_eq!(map.all(b"x").count(), 2);
        assert_eq!(map.single(b":path"), Single::One(b"/a"));
        assert_eq!(map.single(b"x"), Single::Conflict);
        assert_eq!(map.single(b"y"), Single::Absent);
    }

    #[test]
    fn a_repeated_equal_value_is_one_value() {
        let bytes = HeaderMap::encode(&[("x", "1"), ("x", "1")]);
        assert_eq!(HeaderMap::new(&bytes).single(b"x"), Single::One(b"1"));
    }

    #[test]
    fn a_damaged_buffer_reads_as_far_as_it_is_sound() {
        let bytes = HeaderMap::encode(&[("a", "1"), ("b", "2")]);
        for end in 0..bytes.len() {
            assert!(
                HeaderMap::new(&bytes[..end]).iter().count() <= 2,
                "cut at {end}"
            );
        }
        assert_eq!(HeaderMap::new(&[0xff; 40]).iter().count(), 0);
        assert_eq!(HeaderMap::new(&[]).iter().count(), 0);
    }
}
