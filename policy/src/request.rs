//! A request as classification needs it: the headers that matter, found in one pass.

use crate::cookie;
use crate::headers::{HeaderMap, Single};
use crate::plan::paths::Segments;
use crate::query;

/// Names of request headers, in lower case as Envoy has them.
pub(crate) mod header {
    pub(crate) const COLOR: &str = "x-envoy-traffic-color";
    pub(crate) const TAG: &str = "x-traffic-tag";
    pub(crate) const BAGGAGE: &str = "baggage";
    pub(crate) const PATH: &str = ":path";
    pub(crate) const ORIGINAL_PATH: &str = "x-envoy-original-path";
    pub(crate) const CLUSTER: &str = "x-ombre-cluster";
    pub(crate) const DECISION: &str = "x-ombre-decision";
    pub(crate) const GROUP: &str = "x-ombre-group";
    pub(crate) const FEATURES: &str = "x-ombre-features";
    pub(crate) const SET_COOKIE: &str = "x-ombre-set-cookie";
}

/// The request, borrowed from the host's buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) headers: HeaderMap<'a>,
    /// `:path` up to the query.
    pub(crate) path: &'a [u8],
    pub(crate) query: &'a [u8],
    /// What was sent first under each name; empty when nothing was.
    first: [&'a [u8]; FIELDS],
    /// A bit for each field that was sent, and for each that was sent again.
    sent: u16,
    repeated: u16,
}

/// The headers that matter. One small table of them costs less than a branch of code for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Method,
    Authority,
    Target,
    Proto,
    Accept,
    Cookie,
    Baggage,
    Stage,
    Version,
    Cluster,
    Color,
    /// Metadata that a client claims for itself.
    ClaimedStage,
    ClaimedBuild,
}

const FIELDS: usize = 13;

impl Field {
    #[inline(always)]
    const fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b":method" => Self::Method,
            b":authority" => Self::Authority,
            b":path" => Self::Target,
            b"x-forwarded-proto" => Self::Proto,
            b"accept" => Self::Accept,
            b"cookie" => Self::Cookie,
            b"baggage" => Self::Baggage,
            b"x-stage" => Self::Stage,
            b"x-api-version" => Self::Version,
            b"x-ombre-cluster" => Self::Cluster,
            b"x-envoy-traffic-color" => Self::Color,
            b"x-env-stage" => Self::ClaimedStage,
            b"x-build-id" => Self::ClaimedBuild,
            _ => return None,
        })
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl<'a> Request<'a> {
    pub(crate) fn read(headers: HeaderMap<'a>) -> Self {
        let mut request = Self {
            headers,
            path: b"",
            query: b"",
            first: [b""; FIELDS],
            sent: 0,
            repeated: 0,
        };
        for (name, value) in headers.iter() {
            if let Some(field) = Field::named(name) {
                let bit = field.bit();
                if request.sent & bit != 0 {
                    request.repeated |= bit;
                } else if let Some(place) = request.first.get_mut(field as usize) {
                    request.sent |= bit;
                    *place = value;
                }
            }
        }
        (request.path, request.query) = query::split(request.first(Field::Target));
        request
    }

    /// The first value, of headers that Envoy has but once; empty when it was not sent.
    pub(crate) fn first(&self, field: Field) -> &'a [u8] {
        self.first.get(field as usize).copied().unwrap_or_default()
    }

    pub(crate) const fn has(&self, field: Field) -> bool {
        self.sent & field.bit() != 0
    }

    /// A header that may be sent once.
    pub(crate) fn single(&self, field: Field) -> Single<'a> {
        match (self.has(field), self.repeated & field.bit() != 0) {
            (false, _) => Single::Absent,
            (true, false) => Single::One(self.first(field)),
            (true, true) => self
                .again(field)
                .fold(Single::Absent, |found, value| found.and(value)),
        }
    }

    /// Every value of a header that may be sent several times but seldom is.
    pub(crate) fn all(&self, field: Field) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let once = self.has(field).then(|| self.first(field));
        let more = self.repeated & field.bit() != 0;
        let more = more.then(|| self.again(field).skip(1));
        once.into_iter().chain(more.into_iter().flatten())
    }

    /// The headers are gone through again only for what was sent again.
    fn again(&self, field: Field) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let own = move |(name, value)| (Field::named(name) == Some(field)).then_some(value);
        self.headers.iter().filter_map(own)
    }

    /// The first cookie of a name. HTTP/2 clients may spread cookies over several headers.
    pub(crate) fn cookie(&self, name: &[u8]) -> Option<&'a [u8]> {
        if !self.has(Field::Cookie) {
            return None;
        }
        let found = cookie::get(self.first(Field::Cookie), name);
        if found.is_none() && self.repeated & Field::Cookie.bit() != 0 {
            return self
                .again(Field::Cookie)
                .find_map(|header| cookie::get(header, name));
        }
        found
    }

    /// The path in percent-decoded segments, so that `/%61dmin` is the route `/admin`. A `%2F`
    /// stays inside its segment, and an escape that is none stays as it is.
    pub(crate) fn segments(&self, decoded: &'a mut Vec<u8>) -> Segments<'a> {
        let path = self.path.strip_prefix(b"/").unwrap_or(self.path);
        let mut segments = Segments::new();
        let mut rest = path;
        loop {
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'%'));
            let Some((segment, after)) = end.and_then(|end| rest.split_at_checked(end)) else {
                // There is room for one more, or it was seen to be too long.
                let _ = segments.try_push(rest);
                return segments;
            };
            let Some(after) = after.strip_prefix(b"/") else {
                return decoded_segments(path, decoded);
            };
            if segments.try_push(segment).is_err() {
                return segments;
            }
            rest = after;
        }
    }
}

#[cold]
fn decoded_segments<'a>(path: &[u8], decoded: &'a mut Vec<u8>) -> Segments<'a> {
    decode(path, decoded);
    // The separators that were there before decoding are marked by their positions.
    let mut segments = Segments::new();
    let mut rest: &'a [u8] = decoded;
    for raw in path.split(|byte| *byte == b'/') {
        let (segment, after) = rest
            .split_at_checked(decoded_length(raw))
            .unwrap_or_default();
        rest = after;
        if segments.try_push(segment).is_err() {
            break;
        }
    }
    segments
}

/// Every segment decoded, one behind the other, without separators.
fn decode(path: &[u8], out: &mut Vec<u8>) {
    out.clear();
    for raw in path.split(|byte| *byte == b'/') {
        out.extend(Decoded { rest: raw });
    }
}

fn decoded_length(raw: &[u8]) -> usize {
    Decoded { rest: raw }.count()
}

struct Decoded<'a> {
    rest: &'a [u8],
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if let [b'%', high, low, rest @ ..] = self.rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            self.rest = rest;
            return Some(high << 4 | low);
        }
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn paths_split_and_then_decode() {
        let cases: [(&str, &[&[u8]]); 8] = [
            ("/", &[b""]),
            ("/a/b", &[b"a", b"b"]),
            ("/a/", &[b"a", b""]),
            ("/%61dmin", &[b"admin"]),
            ("/a%2Fb/c", &[b"a/b", b"c"]),
            ("/a%2/%zz", &[b"a%2", b"%zz"]),
            ("/%ff", &[b"\xff"]),
            ("/a?x=/b", &[b"a"]),
        ];
        for (path, expected) in cases {
            let bytes = HeaderMap::encode(&[(":path", path)]);
            let request = Request::read(HeaderMap::new(&bytes));
            let mut decoded = Vec::new();
            assert_eq!(
                request.segments(&mut decoded).as_slice(),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn endless_paths_are_cut() {
        let path = "/x".repeat(500) + "/%41";
        let bytes = HeaderMap::encode(&[(":path", path)]);
        let request = Request::read(HeaderMap::new(&bytes));
        let mut decoded = Vec::new();
        assert_eq!(request.segments(&mut decoded).len(), 33);
    }
}
