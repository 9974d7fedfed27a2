//! Version numbers: the ones a policy configures (`v2.3`) and the ones a request asks for (`v2` or `v2.3`).
//! Both are the article's `Major.Minor` (§2.1); they differ in what a missing minor means.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Longest run of digits of a major or a minor; nine digits always fit a `u32`.
const MAX_DIGITS: usize = 9;

/// The number of a configured version. Ordered by major, then minor, so that the highest 2.x is the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionNumber {
    /// What breaks compatibility.
    pub major: u32,
    /// What does not.
    pub minor: u32,
}

impl VersionNumber {
    /// Reads `v2`, `v2.3`, `2` or `2.3`; without a minor it is 0. At most nine digits each.
    ///
    /// # Errors
    /// [`VersionError`] with the text when it has another form.
    pub fn parse(text: &str) -> Result<VersionNumber, VersionError> {
        match Wanted::parse(text.as_bytes()) {
            Some(Wanted { major, minor }) => Ok(VersionNumber {
                major,
                minor: minor.unwrap_or(0),
            }),
            None => Err(VersionError {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "v{}.{}", self.major, self.minor)
    }
}

/// A text that is no version number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a version number, write it like `v2` or `v2.3`, with at most nine digits each"
)]
pub struct VersionError {
    text: String,
}

/// What a request asks for: a major with any minor, or one exact version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The major, which must be equal.
    pub major: u32,
    /// The minor, which must be equal if it is given.
    pub minor: Option<u32>,
}

impl Wanted {
    /// Reads `v2`, `V2`, `2`, `v2.3` or `2.3` and nothing else, at most nine digits each.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Wanted> {
        let number = match bytes {
            [b'v' | b'V', number @ ..] => number,
            number => number,
        };
        let dot = number
            .iter()
            .position(|&byte| byte == b'.')
            .and_then(|at| number.split_at_checked(at));
        match dot {
            None => Some(Wanted {
                major: digits(number)?,
                minor: None,
            }),
            Some((major, minor)) => Some(Wanted {
                major: digits(major)?,
                minor: Some(digits(minor.strip_prefix(b".")?)?),
            }),
        }
    }

    /// Whether a configured version is one that was asked for.
    #[must_use]
    pub fn accepts(self, version: VersionNumber) -> bool {
        self.major == version.major && self.minor.is_none_or(|minor| minor == version.minor)
    }
}

/// One to nine ASCII digits as a number.
pub(crate) fn digits(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() || bytes.len() > MAX_DIGITS {
        return None;
    }
    bytes.iter().try_fold(0_u32, |number, byte| {
        byte.is_ascii_digit().then(|| {
            number
                .wrapping_mul(10)
                .wrapping_add(u32::from(byte.wrapping_sub(b'0')))
        })
    })
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn wanted(major: u32, minor: impl Into<Option<u32>>) -> Option<Wanted> {
        Some(Wanted {
            major,
            minor: minor.into(),
        })
    }

    #[test]
    fn wanted_reads_its_five_forms_and_nothing_else() {
        let cases: [(&str, &[u8], Option<Wanted>); 22] = [
            ("lower", b"v2", wanted(2, None)),
            ("upper", b"V2", wanted(2, None)),
            ("bare", b"2", wanted(2, None)),
            ("minor", b"v2.3", wanted(2, 3)),
            ("bare_minor", b"2.3", wanted(2, 3)),
            ("zero", b"v0", wanted(0, None)),
            ("zero_minor", b"v2.0", wanted(2, 0)),
            ("leading_zero", b"v02", wanted(2, None)),
            (
                "nine_digits",
                b"v999999999.999999999",
                wanted(999_999_999, 999_999_999),
            ),
            ("ten_digits", b"v1000000000", None),
            ("ten_digits_minor", b"v1.1000000000", None),
            ("empty", b"", None),
            ("only_v", b"v", None),
            ("no_major", b"v.3", None),
            ("no_minor", b"v2.", None),
            ("three_parts", b"v2.3.4", None),
            ("space", b" v2", None),
            ("sign", b"v+2", None),
            ("letters", b"v2a", None),
            ("double_v", b"vv2", None),
            ("not_utf8", b"v\xff", None),
            ("arabic_digit", "v٢".as_bytes(), None),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(Wanted::parse(bytes), expected, "{name}");
        }
    }

    #[test]
    fn a_version_number_without_minor_is_point_zero() {
        for (text, expected) in [
            ("v2", "v2.0"),
            ("2", "v2.0"),
            ("v2.3", "v2.3"),
            ("2.10", "v2.10"),
        ] {
            assert_eq!(
                VersionNumber::parse(text).unwrap().to_string(),
                expected,
                "{text}"
            );
        }
        let error = VersionNumber::parse("latest").unwrap_err().to_string();
        assert_eq!(
            error,
            "`latest` is not a version number, write it like `v2` or `v2.3`, with at most nine digits each"
        );
    }

    #[test]
    fn versions_are_ordered_as_numbers() {
        let order =
            ["v1.9", "v1.10", "v2.0", "v10.0"].map(|text| VersionNumber::parse(text).unwrap());
        assert!(order.is_sorted());
    }

    #[test]
    fn a_major_accepts_every_minor_and_a_minor_only_itself() {
        let version = VersionNumber { major: 2, minor: 3 };
        for (text, accepted) in [
            ("v2", true),
            ("v2.3", true),
            ("v2.0", false),
            ("v3", false),
            ("v3.3", false),
        ] {
            assert_eq!(
                Wanted::parse(text.as_bytes()).unwrap().accepts(version),
                accepted,
                "{text}"
            );
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn only_plain_text_is_ever_a_version(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
                prop_assert!(Wanted::parse(&bytes).is_none() || bytes.is_ascii());
            }

            #[test]
            fn what_is_displayed_is_read_back(major in 0..1_000_000_000_u32, minor in 0..1_000_000_000_u32) {
                let version = VersionNumber { major, minor };
                prop_assert_eq!(VersionNumber::parse(&version.to_string()), Ok(version));
            }
        }
    }
}
