//! W3C baggage: reads one member, and merges ours into the members a request already carries.
//! Members of others are passed on byte for byte, within the limits of the recommendation (§3.3.2 there).

/// Most members of a list.
const MAX_MEMBERS: usize = 64;
/// Longest list in bytes, commas included.
const MAX_BYTES: usize = 8192;

/// How a merge came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Members of others that did not fit the limits and were left out, always the last ones.
    pub dropped: usize,
    /// Whether our own member is in the list; it is not only if it alone exceeds 8192 bytes.
    pub written: bool,
}

/// The value of the first member with this key, as it stands (percent-encoded) and without its properties.
#[must_use]
pub fn get<'a>(value: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    members(value).find_map(|member| {
        let (found, value) = split_member(member)?;
        (found == key).then_some(value)
    })
}

/// Writes into `out`, in place of what it holds, one list with our member first and the others in their order.
///
/// `existing` are the values of all `baggage` headers of the request. Members with our key are left out.
/// Ours stands first because the limits cut the list at its end, and the color must outlive that.
/// `key` and `value` must already be encoded as the recommendation asks; colors always are.
pub fn merge<'a>(
    existing: impl Iterator<Item = &'a [u8]>,
    key: &[u8],
    value: &[u8],
    out: &mut Vec<u8>,
) -> Merged {
    out.clear();
    let written = key.len().saturating_add(value.len()) < MAX_BYTES;
    if written {
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value);
    }
    let mut count = usize::from(written);
    let mut dropped = 0_usize;
    for member in existing.flat_map(members) {
        if split_member(member).is_some_and(|(found, _)| found == key) {
            continue;
        }
        let comma = usize::from(count > 0);
        let len = out.len().saturating_add(comma).saturating_add(member.len());
        // Once one is left out all behind it are: a list is cut, never thinned.
        if dropped > 0 || count == MAX_MEMBERS || len > MAX_BYTES {
            dropped = dropped.saturating_add(1);
            continue;
        }
        if comma > 0 {
            out.push(b',');
        }
        out.extend_from_slice(member);
        count = count.saturating_add(1);
    }
    Merged { dropped, written }
}

/// The members of one header value; empty ones, which the grammar forbids but clients send, are passed over.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// Key and value of a member; what has no `=` has neither.
fn split_member(member: &[u8]) -> Option<(&[u8], &[u8])> {
    let pair = member.split(|&byte| byte == b';').next()?;
    let at = pair.iter().position(|&byte| byte == b'=')?;
    let (key, value) = pair.split_at_checked(at)?;
    Some((key.trim_ascii(), value.strip_prefix(b"=")?.trim_ascii()))
}

#[cfg(test)]
mod tests;
