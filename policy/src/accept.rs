//! Content negotiation of a version: which version the `Accept` values of a request ask for.
//! Media ranges and weights are those of RFC 9110 §12.5.1, vendor subtypes those of §2.1 of the article.

use crate::version::{Wanted, digits};

/// What the `Accept` values of a request say about the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiated {
    /// No media range names a version.
    NotAsked,
    /// The most preferred range that names a configured version names this one.
    Version(Wanted),
    /// Ranges name versions, none of them configured; this is the most preferred one.
    Unknown(Wanted),
}

/// Chooses the version that the given `Accept` values prefer among those for which `configured` says yes.
///
/// A range names a version as `application/vnd.<name>.v2+json`, `application/vnd.<name>.v2.3+json`,
/// `application/vnd.<name>.v2.raw+json`, `application/vnd.api+v1` or `application/vnd.api+v1+json`, in any case.
/// The highest weight wins, ties go to the first in header order. A range of weight 0 is excluded.
/// A range whose weight is malformed is ignored as a whole: it is as likely to be meant as a refusal.
/// Ranges that name no version, such as `*/*`, say nothing.
pub fn negotiate<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    mut configured: impl FnMut(Wanted) -> bool,
) -> Negotiated {
    let mut version: Option<Preferred> = None;
    let mut unknown: Option<Preferred> = None;
    for range in values.flat_map(|value| Unquoted {
        rest: Some(value),
        separator: b',',
    }) {
        let Some(asked) = read_range(range) else {
            continue;
        };
        let best = if configured(asked.wanted) {
            &mut version
        } else {
            &mut unknown
        };
        if best.is_none_or(|best| asked.weight > best.weight) {
            *best = Some(asked);
        }
    }
    match (version, unknown) {
        (Some(best), _) => Negotiated::Version(best.wanted),
        (None, Some(best)) => Negotiated::Unknown(best.wanted),
        (None, None) => Negotiated::NotAsked,
    }
}

/// A look that spares most requests the reading: without `/v` no range names a version.
pub(crate) fn may_name(value: &[u8]) -> bool {
    let mut before = 0;
    value.iter().any(|&byte| {
        let found = before == b'/' && matches!(byte, b'v' | b'V');
        before = byte;
        found
    })
}

/// A version that a media range names, and how much it is preferred.
#[derive(Clone, Copy)]
struct Preferred {
    wanted: Wanted,
    /// The `q` of the range in thousandths, 1 to 1000.
    weight: u16,
}

/// The parts of a header value between separators that are not inside a quoted string.
struct Unquoted<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Iterator for Unquoted<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let mut quoted = false;
        let mut escaped = false;
        let end = rest.iter().position(|&byte| {
            if escaped {
                escaped = false;
            } else if byte == b'"' {
                quoted = !quoted;
            } else if quoted && byte == b'\\' {
                escaped = true;
            } else {
                return !quoted && byte == self.separator;
            }
            false
        });
        let (part, rest) = match end.and_then(|end| rest.split_at_checked(end)) {
            Some((part, [_, rest @ ..])) => (part, Some(rest)),
            _ => (rest, None),
        };
        self.rest = rest;
        Some(part.trim_ascii())
    }
}

/// The version a media range names, unless it names none or is excluded by its weight.
fn read_range(range: &[u8]) -> Option<Preferred> {
    let mut parts = Unquoted {
        rest: Some(range),
        separator: b';',
    };
    // The media type comes first: most ranges name no version and need no further reading.
    let wanted = named_version(parts.next()?)?;
    let weight = parts.find_map(|parameter| match parameter {
        [b'q' | b'Q', b'=', weight @ ..] => Some(read_weight(weight)),
        _ => None,
    });
    let weight = weight.unwrap_or(Some(1000))?;
    (weight > 0).then_some(Preferred { wanted, weight })
}

/// A weight in thousandths: `0` or `1`, with at most three decimals, at most 1.
fn read_weight(weight: &[u8]) -> Option<u16> {
    let (whole, decimals) = match weight {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let thousandths =
        [100, 10, 1]
            .iter()
            .zip(decimals)
            .try_fold(0, |sum: u16, (unit, digit)| {
                digit.is_ascii_digit().then(|| {
                    sum.saturating_add(u16::from(digit.wrapping_sub(b'0')).saturating_mul(*unit))
                })
            })?;
    match (whole, thousandths) {
        (b'0', thousandths) => Some(thousandths),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

/// The version in a vendor media type: in the dotted name after its first label, else among the suffixes.
fn named_version(media_type: &[u8]) -> Option<Wanted> {
    const PREFIX: &[u8] = b"application/vnd.";
    let (prefix, subtype) = media_type.split_at_checked(PREFIX.len())?;
    if !prefix.eq_ignore_ascii_case(PREFIX) {
        return None;
    }
    let mut suffixes = subtype.split(|&byte| byte == b'+');
    let mut labels = suffixes.next()?.split(|&byte| byte == b'.');
    if labels.next()?.is_empty() {
        return None;
    }
    while let Some(label) = labels.next() {
        if let Some(major) = label_major(label) {
            // A label of digits behind the major is its minor; `v2.raw` has none.
            return match labels.next() {
                Some(minor)
                    if minor.first().is_some_and(u8::is_ascii_digit)
                        && minor.iter().all(u8::is_ascii_digit) =>
                {
                    Some(Wanted {
                        major,
                        minor: Some(digits(minor)?),
                    })
                }
                _ => Some(Wanted { major, minor: None }),
            };
        }
    }
    suffixes.find_map(|suffix| {
        if matches!(suffix, [b'v' | b'V', ..]) {
            Wanted::parse(suffix)
        } else {
            None
        }
    })
}

/// The major in a label such as `v2`.
fn label_major(label: &[u8]) -> Option<u32> {
    match label {
        [b'v' | b'V', major @ ..] => digits(major),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
