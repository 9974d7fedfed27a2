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
    pub(crate) method: &'a [u8],
    pub(crate) authority: &'a [u8],
    /// `:path` up to the query.
    pub(crate) path: &'a [u8],
    pub(crate) query: &'a [u8],
    /// `:path` as it is.
    pub(crate) target: &'a [u8],
    pub(crate) is_https: bool,
    pub(crate) color: Single<'a>,
    pub(crate) version: Single<'a>,
    pub(crate) stage: Single<'a>,
    /// What stands there already: what the listener sets before anything is routed.
    pub(crate) cluster: Single<'a>,
    accept: Repeatable<'a>,
    cookie: Repeatable<'a>,
    baggage: Repeatable<'a>,
    /// Metadata headers that the client sent itself.
    pub(crate) claims_stage: bool,
    pub(crate) claims_build: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn read(headers: HeaderMap<'a>) -> Self {
        let mut request = Self {
            headers,
            method: b"",
            authority: b"",
            path: b"",
            query: b"",
            target: b"",
            is_https: false,
            color: Single::Absent,
            version: Single::Absent,
            stage: Single::Absent,
            cluster: Single::Absent,
            accept: Repeatable::default(),
            cookie: Repeatable::default(),
            baggage: Repeatable::default(),
            claims_stage: false,
            claims_build: false,
        };
        for (name, value) in headers.iter() {
            match name {
                b":method" => request.method = value,
                b":authority" => request.authority = value,
                b":path" => request.target = value,
                b"accept" => request.accept.see(value),
                b"cookie" => request.cookie.see(value),
                b"baggage" => request.baggage.see(value),
                b"x-stage" => request.stage = request.stage.and(value),
                b"x-api-version" => request.version = request.version.and(value),
                b"x-ombre-cluster" => request.cluster = request.cluster.and(value),
                b"x-envoy-traffic-color" => request.color = request.color.and(value),
                b"x-forwarded-proto" => request.is_https = value == b"https",
                b"x-env-stage" => request.claims_stage = true,
                b"x-build-id" => request.claims_build = true,
                _ => {}
            }
        }
        (request.path, request.query) = query::split(request.target);
        request
    }

    /// Every `Accept` header.
    pub(crate) fn accept(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.accept.all(self.headers, b"accept")
    }

    /// Every `baggage` header.
    pub(crate) fn baggage(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.baggage.all(self.headers, b"baggage")
    }

    /// The first cookie of a name. HTTP/2 clients may spread cookies over several headers.
    pub(crate) fn cookie(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.cookie
            .all(self.headers, b"cookie")
            .find_map(|header| cookie::get(header, name))
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

/// A header that may be sent several times but seldom is: only then the headers are gone through again.
#[derive(Clone, Copy, Debug, Default)]
struct Repeatable<'a> {
    first: Option<&'a [u8]>,
    is_repeated: bool,
}

impl<'a> Repeatable<'a> {
    fn see(&mut self, value: &'a [u8]) {
        self.is_repeated = self.first.is_some();
        self.first = self.first.or(Some(value));
    }

    fn all(
        self,
        headers: HeaderMap<'a>,
        name: &'static [u8],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let more = self.is_repeated.then(|| headers.all(name).skip(1));
        self.first.into_iter().chain(more.into_iter().flatten())
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
