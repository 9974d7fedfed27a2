//! Splits a request target and reads one parameter out of its query.

/// The path and the query of a request target, without the `?` between them and without a fragment.
#[must_use]
pub fn split(target: &[u8]) -> (&[u8], &[u8]) {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
    match end.and_then(|end| target.split_at_checked(end)) {
        None => (target, &[]),
        Some((path, [b'?', query @ ..])) => (path, split_once(query, b'#').0),
        Some((path, _)) => (path, &[]),
    }
}

/// The value of the first parameter of this name, as it stands: nothing is percent-decoded, because the values
/// that ombre reads (colors, versions) never need encoding. A parameter without `=` has an empty value.
#[must_use]
pub fn get<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if query.is_empty() {
        return None;
    }
    query
        .split(|&byte| byte == b'&')
        .map(|parameter| split_once(parameter, b'='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

/// What stands before and behind the first separator; behind is empty when there is none.
fn split_once(bytes: &[u8], separator: u8) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|&byte| byte == separator);
    match at.and_then(|at| bytes.split_at_checked(at)) {
        Some((before, [_, behind @ ..])) => (before, behind),
        _ => (bytes, &[]),
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// Name, input, expected answer.
    type Case = (&'static str, &'static [u8], Option<&'static [u8]>);

    /// Path and query.
    type Parts = [&'static [u8]; 2];

    #[test]
    fn a_target_is_a_path_and_a_query() {
        let cases: [(&str, &[u8], Parts); 9] = [
            ("path", b"/a/b", [b"/a/b", b""]),
            ("query", b"/a?b=1", [b"/a", b"b=1"]),
            ("second_question_mark", b"/a?b=?", [b"/a", b"b=?"]),
            ("empty_query", b"/a?", [b"/a", b""]),
            ("fragment", b"/a#b?c=1", [b"/a", b""]),
            ("fragment_behind_query", b"/a?b=1#c", [b"/a", b"b=1"]),
            ("no_path", b"?b", [b"", b"b"]),
            ("empty", b"", [b"", b""]),
            ("not_utf8", b"/\xff?\xfe", [b"/\xff", b"\xfe"]),
        ];
        for (name, target, expected) in cases {
            assert_eq!(Parts::from(split(target)), expected, "{name}");
        }
    }

    #[test]
    fn the_first_parameter_of_the_name_answers() {
        let cases: [Case; 11] = [
            ("alone", b"color=red", Some(b"red")),
            ("second", b"a=1&color=red", Some(b"red")),
            ("first_of_two", b"color=red&color=blue", Some(b"red")),
            ("equals_in_value", b"color=a=b", Some(b"a=b")),
            ("empty_value", b"color=", Some(b"")),
            ("no_equals", b"a&color&b", Some(b"")),
            ("not_decoded", b"color=%72ed", Some(b"%72ed")),
            ("longer_name", b"xcolor=1&colors=2", None),
            ("other_case", b"Color=red", None),
            ("empty", b"", None),
            ("only_separators", b"&&=&", None),
        ];
        for (name, query, expected) in cases {
            assert_eq!(get(query, b"color"), expected, "{name}");
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn a_path_ends_at_the_first_mark(target in proptest::collection::vec(any::<u8>(), 0..60)) {
                let (path, query) = split(&target);
                prop_assert!(target.starts_with(path) && !path.contains(&b'?') && !path.contains(&b'#'));
                prop_assert!(!query.contains(&b'#'));
                prop_assert!(get(query, b"a").is_none_or(|value| !value.contains(&b'&')));
            }

            #[test]
            fn what_is_written_is_found(pairs in proptest::collection::vec(("[a-e]", "[a-z=?]{0,5}"), 1..9)) {
                let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let target = format!("/x?{}#f", query.join("&"));
                for (name, _) in &pairs {
                    let first = pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_bytes());
                    prop_assert_eq!(get(split(target.as_bytes()).1, name.as_bytes()), first);
                }
            }
        }
    }
}
