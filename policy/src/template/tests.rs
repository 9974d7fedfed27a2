//! Cases and properties of path templates.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn fixed(text: &str) -> Segment {
    Segment::Static(text.to_owned())
}

fn param(name: &str) -> Segment {
    Segment::Param {
        name: name.to_owned(),
    }
}

fn pattern(name: &str, regex: &str) -> Segment {
    Segment::Pattern {
        name: name.to_owned(),
        regex: regex.to_owned(),
    }
}

fn rest(name: &str) -> Segment {
    Segment::Rest {
        name: name.to_owned(),
    }
}

#[test]
fn templates_are_read_segment_by_segment() {
    let cases: Vec<(&str, &str, Vec<Segment>)> = vec![
        ("root", "/", vec![fixed("")]),
        ("static", "/a/b", vec![fixed("a"), fixed("b")]),
        ("trailing_slash", "/a/", vec![fixed("a"), fixed("")]),
        (
            "design",
            "/api/{version}/checkout/{id:[0-9]+}",
            vec![
                fixed("api"),
                param("version"),
                fixed("checkout"),
                pattern("id", "[0-9]+"),
            ],
        ),
        (
            "rest",
            "/checkout/{*rest}",
            vec![fixed("checkout"), rest("rest")],
        ),
        ("only_rest", "/{*_0}", vec![rest("_0")]),
        (
            "braces_in_regex",
            "/{id:[0-9]{3}}/x",
            vec![pattern("id", "[0-9]{3}"), fixed("x")],
        ),
        (
            "slash_in_regex",
            "/{id:[^/]+}/x",
            vec![pattern("id", "[^/]+"), fixed("x")],
        ),
        (
            "escaped_brace",
            r"/{id:\}+\{}",
            vec![pattern("id", r"\}+\{")],
        ),
        ("escaped_open", r"/{id:x\{}", vec![pattern("id", r"x\{")]),
        ("escaped_close", r"/{id:x\}}", vec![pattern("id", r"x\}")]),
        (
            "escaped_backslash",
            r"/{id:a\\}",
            vec![pattern("id", r"a\\")],
        ),
        ("marks_in_regex", "/{id:a?#%}", vec![pattern("id", "a?#%")]),
        (
            "colon_in_regex",
            "/{id:(?:a:b)}",
            vec![pattern("id", "(?:a:b)")],
        ),
        (
            "decoded",
            "/caf%C3%A9/%7Bx%3f",
            vec![fixed("café"), fixed("{x?")],
        ),
        (
            "not_encoded",
            "/café/a:b*",
            vec![fixed("café"), fixed("a:b*")],
        ),
        ("dots_within", "/a.b/...", vec![fixed("a.b"), fixed("...")]),
        ("backslash", r"/a\b/{c}", vec![fixed(r"a\b"), param("c")]),
    ];
    for (name, text, segments) in cases {
        assert_eq!(Template::parse(text), Ok(Template { segments }), "{name}");
    }
}

#[test]
fn faults_name_the_place_and_the_cure() {
    let cases = [
        ("", "path ``, character 1: a path starts with `/`"),
        ("a/b", "path `a/b`, character 1: a path starts with `/`"),
        (
            "//",
            "path `//`, character 2: the segment is empty, remove one `/`",
        ),
        (
            "/é//b",
            "path `/é//b`, character 4: the segment is empty, remove one `/`",
        ),
        (
            "/a/{id:[0-9]{3}",
            r"path `/a/{id:[0-9]{3}`, character 4: the `{` is never closed, add `}`, and write a literal brace in a regex as `\{`",
        ),
        (
            "/a}",
            "path `/a}`, character 3: the `}` closes nothing, remove it, and write a literal brace in a path as `%7D`",
        ),
        (
            "/v{major}",
            "path `/v{major}`, character 3: a parameter is a whole segment, put `/` around `{..}`",
        ),
        (
            "/{a}x",
            "path `/{a}x`, character 2: a parameter is a whole segment, put `/` around `{..}`",
        ),
        (
            "/{a}{b}",
            "path `/{a}{b}`, character 2: a parameter is a whole segment, put `/` around `{..}`",
        ),
        (
            "/{Id}",
            "path `/{Id}`, character 2: `Id` is not a parameter name, write it with `a-z`, `0-9` and `_`, not starting with a digit",
        ),
        (
            "/{}",
            "path `/{}`, character 2: `` is not a parameter name, write it with `a-z`, `0-9` and `_`, not starting with a digit",
        ),
        (
            "/{*1}",
            "path `/{*1}`, character 2: `1` is not a parameter name, write it with `a-z`, `0-9` and `_`, not starting with a digit",
        ),
        (
            "/{a}/{*a}",
            "path `/{a}/{*a}`, character 6: the parameter `a` comes twice, rename one",
        ),
        (
            "/{a:}",
            "path `/{a:}`, character 2: the parameter `a` has an empty regex, write `{a}` to match any segment",
        ),
        (
            "/{*a}/",
            "path `/{*a}/`, character 2: `{*a}` takes the rest of the path, nothing can follow it",
        ),
        (
            "/a?b=1",
            "path `/a?b=1`, character 3: `?` ends a path, remove it, or write a literal one as `%3F`",
        ),
        (
            "/a#b",
            "path `/a#b`, character 3: `#` ends a path, remove it, or write a literal one as `%23`",
        ),
        (
            "/{a:\n}",
            "path `/{a:\n}`, character 5: a control character cannot be in a path, remove it",
        ),
        (
            "/%00",
            "path `/%00`, character 2: a control character cannot be in a path, remove it",
        ),
        (
            "/a%4",
            "path `/a%4`, character 3: a `%` is followed by two hexadecimal digits, write a literal one as `%25`",
        ),
        (
            "/a%+1b",
            "path `/a%+1b`, character 3: a `%` is followed by two hexadecimal digits, write a literal one as `%25`",
        ),
        (
            "/a%2Fb",
            "path `/a%2Fb`, character 3: an escaped slash cannot be told from a `/` by what the path passes through, remove it",
        ),
        (
            "/%ff",
            "path `/%ff`, character 2: the escapes are not UTF-8, escape each byte of a character's UTF-8 form",
        ),
        (
            "/a/%2e.",
            "path `/a/%2e.`, character 4: `%2e.` is resolved before a path is routed, write the resolved path",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            Template::parse(text).map_err(|error| error.to_string()),
            Err(expected.to_owned())
        );
    }
}

#[test]
fn a_template_has_at_most_32_segments() {
    assert_eq!(
        Template::parse(&"/a".repeat(32)).unwrap().segments().len(),
        32
    );
    assert_eq!(
        Template::parse(&"/a".repeat(33))
            .unwrap_err()
            .fault
            .to_string(),
        "more than 32 segments, end the path with `{*rest}` instead"
    );
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,60}") {
            let _ = Template::parse(&text).map_err(|error| error.to_string());
        }

        #[test]
        fn likely_text_keeps_the_rules(text in r"/([{}*/a:?%.\\0-9é]{0,3}|\{[a-c](:[0-9{}\[\]\\]{1,5})?\}|/){0,12}") {
            if let Ok(template) = Template::parse(&text) {
                let segments = template.segments();
                let (last, others) = segments.split_last().unwrap();
                prop_assert!(segments.len() <= 32);
                let empty = |segment: &Segment| matches!(segment, Segment::Static(text) if text.is_empty());
                let rest = |segment: &Segment| matches!(segment, Segment::Rest { .. });
                prop_assert!(!others.iter().any(|other| empty(other) || rest(other)));
                prop_assert_eq!(empty(last), text.ends_with('/'));
                let mut names: Vec<_> = segments.iter().filter_map(Segment::name).collect();
                names.sort_unstable();
                prop_assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
            }
        }
    }
}
