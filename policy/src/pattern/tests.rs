//! Cases and properties of patterns.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

type Segments = &'static [&'static [u8]];

#[test]
fn patterns_match_whole_segments() {
    let cases: [(&str, Segments, Segments); 16] = [
        ("[0-9]+", &[b"1", b"0123"], &[b"", b"a1", b"1a", b"1\n"]),
        ("[0-9]{3}", &[b"123"], &[b"12", b"1234"]),
        ("a|ab", &[b"a", b"ab"], &[b"abb", b"b"]),
        ("ab|a", &[b"a", b"ab"], &[b"aba"]),
        ("a*?", &[b"", b"aaa"], &[b"b", b"aab"]),
        ("(a|b)?c", &[b"c", b"bc"], &[b"abc"]),
        ("", &[b""], &[b"a"]),
        ("^a$", &[b"a"], &[b"aa"]),
        ("a$|b", &[b"a", b"b"], &[b"ab"]),
        ("(?m)a$\n^b", &[b"a\nb"], &[b"a"]),
        ("(?i)ab", &[b"AB", b"aB"], &[b"abc"]),
        ("(?x)a # b)", &[b"a"], &[b"ab", b"a # b)"]),
        (r"\d\w\b", &[b"1a"], &[b"1-", b"\xd9\xa1a"]),
        ("é", &[b"\xc3\xa9"], &[b"e", b"\xc3"]),
        (
            "(?-u:\\xff).",
            &[b"\xffa", b"\xff\xfe"],
            &[b"\xff", b"\xff\n"],
        ),
        ("[^/]+", &[b"a b", b"\xff\x00"], &[b"", b"a/b"]),
    ];
    for (regex, yes, no) in cases {
        let pattern = Pattern::compile(regex).unwrap();
        let read = Pattern::from_bytes(pattern.as_bytes().to_vec()).unwrap();
        for (segments, expected) in [(yes, true), (no, false)] {
            for segment in segments {
                assert_eq!(pattern.matches(segment), expected, "{regex} on {segment:?}");
                assert_eq!(
                    read.matches(segment),
                    expected,
                    "{regex} on {segment:?} once read back"
                );
            }
        }
    }
}

#[test]
fn what_is_no_pattern_is_explained() {
    let long = "a".repeat(513);
    let cases = [
        (
            "[0-9",
            "the regex `[0-9` cannot be read: unclosed character class",
        ),
        ("a)|(b", "the regex `a)|(b` cannot be read: unopened group"),
        (
            "(?=a)",
            "the regex `(?=a)` cannot be read: look-around, including look-ahead and look-behind, is not supported",
        ),
        (
            r"(a)\1",
            r"the regex `(a)\1` cannot be read: backreferences are not supported",
        ),
        (
            r"\p{L}",
            r"the regex `\p{L}` cannot be read: Unicode not allowed here",
        ),
        (
            "(?:a{500}){500}",
            "the regex `(?:a{500}){500}` takes more than 256 KiB when compiled, simplify it: lower its repetition counts first",
        ),
        (
            "[01]*1[01]{14}",
            "the regex `[01]*1[01]{14}` takes more than 256 KiB when compiled, simplify it: lower its repetition counts first",
        ),
        (
            &long,
            "the regex `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..` takes more than 512 bytes, simplify it: lower its repetition counts first",
        ),
    ];
    for (regex, expected) in cases {
        assert_eq!(Pattern::compile(regex).unwrap_err().to_string(), expected);
    }
}

#[test]
fn damaged_bytes_are_refused() {
    let bytes = Pattern::compile("[a-f0-9]{8}").unwrap().as_bytes().to_vec();
    for len in 0..bytes.len() {
        assert_eq!(
            Pattern::from_bytes(bytes[..len].to_vec()),
            Err(PatternError::Damaged),
            "{len}"
        );
    }
    assert_eq!(
        Pattern::from_bytes([bytes.as_slice(), b"x"].concat()),
        Err(PatternError::Damaged)
    );
}

#[test]
fn patterns_of_a_size_people_write_are_small() {
    let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    let pattern = Pattern::compile(uuid).unwrap();
    assert!(pattern.matches(b"2f1b9c1e-9f5a-4b7e-8b43-0a1b2c3d4e5f"));
    assert!(
        pattern.as_bytes().len() < 4096,
        "{}",
        pattern.as_bytes().len()
    );
}

#[test]
fn a_pattern_survives_postcard() {
    let pattern = Pattern::compile("v[0-9]+").unwrap();
    let bytes = postcard::to_allocvec(&pattern).unwrap();
    assert_eq!(postcard::from_bytes::<Pattern>(&bytes).unwrap(), pattern);
    assert!(postcard::from_bytes::<Pattern>(b"\x03abc").is_err());
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_an_anchored_search(
            regex in r"([ab]|\.|\(a\|b\)|\(\?:ab\)|[ab][?*+]|[ab]\{1,2\}|\^|\$|\|){0,8}",
            segment in "[abc]{0,6}",
        ) {
            let pattern = Pattern::compile(&regex).unwrap();
            let anchored = format!("\\A(?:{regex})\\z");
            let search = regex_automata::dfa::dense::DFA::new(&anchored).unwrap();
            let expected = search.try_search_fwd(&regex_automata::Input::new(&segment)).unwrap().is_some();
            prop_assert_eq!(pattern.matches(segment.as_bytes()), expected, "{} on {}", regex, segment);
        }

        #[test]
        fn any_bytes_are_safe(
            noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            segment in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut bytes = Pattern::compile("[a-c]+-[0-9]{2}").unwrap().as_bytes().to_vec();
            for (at, byte) in noise {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(pattern) = Pattern::from_bytes(bytes) {
                let _ = pattern.matches(&segment);
            }
        }
    }
}
