//! Reads one cookie out of a `Cookie` header value (RFC 6265 §4.2, read as leniently as servers do).

/// The value of the first cookie of this name; names are case-sensitive.
///
/// Spaces around name and value and one pair of quotes around the value are trimmed.
/// A cookie without `=` has no name and is passed over.
#[must_use]
pub fn get<'a>(header: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    header.split(|&byte| byte == b';').find_map(|cookie| {
        let value = cookie.trim_ascii_start().strip_prefix(name)?;
        let value = value.trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
        match value {
            [b'"', inner @ .., b'"'] => Some(inner),
            _ => Some(value),
        }
    })
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// Name, input, expected answer.
    type Case = (&'static str, &'static [u8], Option<&'static [u8]>);

    #[test]
    fn the_first_cookie_of_the_name_answers() {
        let cases: [Case; 16] = [
            ("alone", b"uid=7", Some(b"7")),
            ("second", b"a=1; uid=7", Some(b"7")),
            ("first_of_two", b"uid=7; uid=8", Some(b"7")),
            ("no_space", b"a=1;uid=7;b=2", Some(b"7")),
            ("spaces", b"  uid =  7  ; b=2", Some(b"7")),
            ("quoted", b"uid=\"7\"", Some(b"7")),
            ("one_quote", b"uid=\"", Some(b"\"")),
            ("open_quote", b"uid=\"7", Some(b"\"7")),
            ("equals_in_value", b"uid=a=b==", Some(b"a=b==")),
            ("empty_value", b"uid=", Some(b"")),
            ("not_utf8", b"uid=\xff\xfe", Some(b"\xff\xfe")),
            ("longer_name", b"xuid=7; uidx=8", None),
            ("other_case", b"UID=7", None),
            ("no_equals", b"uid", None),
            ("empty", b"", None),
            ("only_separators", b";;=;", None),
        ];
        for (name, header, expected) in cases {
            assert_eq!(get(header, b"uid"), expected, "{name}");
        }
    }

    #[test]
    fn the_last_of_200_cookies_is_found() {
        let header: Vec<String> = (0..200).map(|n| format!("c{n}=v{n}")).collect();
        assert_eq!(
            get(header.join("; ").as_bytes(), b"c199"),
            Some(&b"v199"[..])
        );
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn an_answer_is_free_of_separators(header in "[ab=; \"]{0,40}") {
                let value = get(header.as_bytes(), b"a");
                prop_assert!(value.is_none_or(|value| !value.contains(&b';') && value.trim_ascii().len() <= header.len()));
            }

            #[test]
            fn what_is_written_is_found(pairs in proptest::collection::vec(("[a-e]", "[!#-:<-~]{0,5}"), 1..9)) {
                let header = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
                for (name, _) in &pairs {
                    let first = pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_bytes());
                    prop_assert_eq!(get(header.as_bytes(), name.as_bytes()), first);
                }
            }
        }
    }
}
