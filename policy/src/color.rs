//! The color of traffic: a short tag that a request carries through every hop (§3.1).

/// Longest color in bytes; the article limits it so that a header cannot grow without bound.
const MAX_LEN: usize = 32;

/// A valid color, `[a-z0-9-]{1,32}`, borrowed from the header, cookie or query it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Color<'a>(&'a str);

impl<'a> Color<'a> {
    /// The color of traffic that carries none.
    pub const DEFAULT: Color<'static> = Color("prod");

    /// The color in these bytes, or nothing when they are not one: an invalid color is dropped, never an error.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Color<'a>> {
        let valid = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if bytes.is_empty() || bytes.len() > MAX_LEN || !bytes.iter().all(valid) {
            return None;
        }
        core::str::from_utf8(bytes).ok().map(Color)
    }

    /// The color as text.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn colors_are_short_and_plain() {
        let cases: [(&str, &[u8], bool); 12] = [
            ("article", b"canary-v2", true),
            ("one_byte", b"a", true),
            ("digits", b"2024", true),
            ("dash", b"-", true),
            ("longest", &[b'x'; 32], true),
            ("too_long", &[b'x'; 33], false),
            ("empty", b"", false),
            ("upper", b"Canary", false),
            ("underscore", b"canary_v2", false),
            ("space", b" canary", false),
            ("line_break", b"a\r\nx: y", false),
            ("not_utf8", b"a\xff", false),
        ];
        for (name, bytes, valid) in cases {
            let color = Color::parse(bytes);
            assert_eq!(
                color.map(|color| color.as_str().as_bytes()),
                valid.then_some(bytes),
                "{name}"
            );
        }
    }

    #[test]
    fn the_default_is_a_valid_color() {
        assert_eq!(Color::parse(b"prod"), Some(Color::DEFAULT));
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn a_color_is_the_bytes_it_was_read_from(bytes in "[a-z0-9A-Z_-]{0,40}") {
                let expected = (1..=32).contains(&bytes.len())
                    && bytes.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
                prop_assert_eq!(Color::parse(bytes.as_bytes()).map(Color::as_str), expected.then_some(bytes.as_str()));
            }
        }
    }
}
