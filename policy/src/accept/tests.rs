//! Cases and properties of content negotiation.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// Negotiates against the configured versions 1.0, 2.0, 2.3 and 3.0.
fn answer(values: &[&[u8]]) -> Negotiated {
    let versions =
        ["v1", "v2", "v2.3", "v3"].map(|text| crate::version::VersionNumber::parse(text).unwrap());
    negotiate(values.iter().copied(), |wanted| {
        versions.iter().any(|version| wanted.accepts(*version))
    })
}

fn version(text: &str) -> Negotiated {
    Negotiated::Version(Wanted::parse(text.as_bytes()).unwrap())
}

fn unknown(text: &str) -> Negotiated {
    Negotiated::Unknown(Wanted::parse(text.as_bytes()).unwrap())
}

#[test]
fn vendor_types_name_versions() {
    use Negotiated::NotAsked;
    let cases: [(&str, &[u8], Negotiated); 26] = [
        ("dotted", b"application/vnd.shop.v2+json", version("v2")),
        (
            "dotted_minor",
            b"application/vnd.shop.v2.3+json",
            version("v2.3"),
        ),
        (
            "github",
            b"application/vnd.github.v3.raw+json",
            version("v3"),
        ),
        ("no_suffix", b"application/vnd.shop.v2", version("v2")),
        ("article", b"application/vnd.api+v1", version("v1")),
        (
            "article_json",
            b"application/vnd.api+v1+json",
            version("v1"),
        ),
        (
            "article_after_json",
            b"application/vnd.api+json+v1",
            version("v1"),
        ),
        (
            "article_minor",
            b"application/vnd.api+v2.3+json",
            version("v2.3"),
        ),
        ("upper", b"APPLICATION/VND.SHOP.V2+JSON", version("v2")),
        (
            "long_name",
            b"application/vnd.acme.shop.v2+json",
            version("v2"),
        ),
        (
            "name_like_a_version",
            b"application/vnd.v1.v2+json",
            version("v2"),
        ),
        (
            "dotted_before_suffix",
            b"application/vnd.api.v2+v1",
            version("v2"),
        ),
        (
            "spaces",
            b" \tapplication/vnd.shop.v2+json ; charset=utf-8 ",
            version("v2"),
        ),
        ("unknown", b"application/vnd.shop.v9+json", unknown("v9")),
        (
            "unknown_minor",
            b"application/vnd.shop.v2.9+json",
            unknown("v2.9"),
        ),
        ("no_name", b"application/vnd.v2+json", NotAsked),
        ("empty_name", b"application/vnd..v2+json", NotAsked),
        ("no_vendor", b"application/v2+json", NotAsked),
        ("no_version", b"application/vnd.shop+json", NotAsked),
        ("bare_number", b"application/vnd.shop.2+json", NotAsked),
        ("bare_number_suffix", b"application/vnd.shop+2", NotAsked),
        (
            "too_long",
            b"application/vnd.shop.v1234567890+json",
            NotAsked,
        ),
        (
            "too_long_minor",
            b"application/vnd.shop.v2.1234567890+json",
            NotAsked,
        ),
        ("other_type", b"text/vnd.shop.v2+json", NotAsked),
        ("any", b"*/*", NotAsked),
        ("truncated", b"application/vnd.", NotAsked),
    ];
    for (name, value, expected) in cases {
        assert_eq!(answer(&[value]), expected, "{name}");
    }
}

#[test]
fn the_highest_weight_of_a_configured_version_wins() {
    use Negotiated::NotAsked;
    let cases: [(&str, &[&[u8]], Negotiated); 21] = [
        ("none", &[], NotAsked),
        ("empty", &[b""], NotAsked),
        ("commas", &[b",,, ,"], NotAsked),
        ("garbage", &[b"\xff\x00;;\"=,\\"], NotAsked),
        (
            "header_order",
            &[b"application/vnd.a.v1+json, application/vnd.a.v2+json"],
            version("v1"),
        ),
        (
            "weight",
            &[b"application/vnd.a.v1+json;q=0.8, application/vnd.a.v2+json;q=0.9"],
            version("v2"),
        ),
        (
            "default_weight",
            &[b"application/vnd.a.v1+json;q=0.999, application/vnd.a.v2+json"],
            version("v2"),
        ),
        (
            "thousandths",
            &[b"application/vnd.a.v1+json;q=0.009, application/vnd.a.v2+json;q=0.01"],
            version("v2"),
        ),
        (
            "one",
            &[b"application/vnd.a.v1+json;q=0.9, application/vnd.a.v2+json;q=1.000"],
            version("v2"),
        ),
        (
            "upper_q",
            &[b"application/vnd.a.v1+json;Q=0.1, application/vnd.a.v2+json;q=0.2"],
            version("v2"),
        ),
        (
            "two_values",
            &[
                b"application/vnd.a.v1+json;q=0.1",
                b"application/vnd.a.v2+json",
            ],
            version("v2"),
        ),
        (
            "known_before_preferred",
            &[b"application/vnd.a.v9+json, application/vnd.a.v2+json;q=0.1"],
            version("v2"),
        ),
        (
            "best_unknown",
            &[b"application/vnd.a.v8+json;q=0.1, application/vnd.a.v9+json;q=0.2"],
            unknown("v9"),
        ),
        (
            "plain_ranges_are_silent",
            &[b"*/*, application/json, application/vnd.a.v2+json;q=0.1"],
            version("v2"),
        ),
        ("zero", &[b"application/vnd.a.v2+json;q=0"], NotAsked),
        (
            "least",
            &[b"application/vnd.a.v2+json;q=0.001"],
            version("v2"),
        ),
        (
            "zero_decimals",
            &[b"application/vnd.a.v2+json;q=0.000, application/vnd.a.v1+json;q=0.1"],
            version("v1"),
        ),
        (
            "weight_after_parameter",
            &[b"application/vnd.a.v2+json;x=\"a;q=0,b\";q=0.5, application/vnd.a.v1+json;q=0.4"],
            version("v2"),
        ),
        (
            "quoted_comma",
            &[b"text/plain;x=\", application/vnd.a.v1+json\", application/vnd.a.v2+json"],
            version("v2"),
        ),
        (
            "quoted_escape",
            &[b"text/plain;x=\"\\\", application/vnd.a.v1+json\", application/vnd.a.v2+json"],
            version("v2"),
        ),
        (
            "open_quote",
            &[b"text/plain;x=\", application/vnd.a.v1+json"],
            NotAsked,
        ),
    ];
    for (name, values, expected) in cases {
        assert_eq!(answer(values), expected, "{name}");
    }
}

#[test]
fn a_range_with_a_malformed_weight_is_ignored() {
    for weight in [
        "", "2", "1.001", "0.1234", "-1", ".5", "0,5", "\"0.5\"", "0.x", "1e0", "0 .5",
    ] {
        let value = format!("application/vnd.a.v2+json;q={weight}");
        assert_eq!(
            answer(&[value.as_bytes()]),
            Negotiated::NotAsked,
            "{weight}"
        );
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(bytes.len() > 24 || answer(&[&bytes]) == Negotiated::NotAsked);
        }

        #[test]
        fn likely_bytes_are_read_without_panic(
            text in "(application/vnd\\.|[a-z.+v0-9,; ]{0,9}|q=|0\\.[0-9]{0,4}|\"|\\\\){0,20}",
        ) {
            let _ = answer(&[text.as_bytes()]);
        }

        #[test]
        fn agrees_with_sorting_the_ranges(ranges in proptest::collection::vec((1..6_u32, 0..=1000_u16), 0..8)) {
            let value = ranges
                .iter()
                .map(|(major, q)| format!("application/vnd.a.v{major}+json;q={}.{:03}", q / 1000, q % 1000))
                .collect::<Vec<_>>()
                .join(", ");
            let mut sorted: Vec<_> = ranges.iter().filter(|(_, q)| *q > 0).collect();
            sorted.sort_by_key(|(_, q)| core::cmp::Reverse(*q));
            let expected = match (sorted.iter().find(|(major, _)| *major <= 3), sorted.first()) {
                (Some((major, _)), _) => version(&major.to_string()),
                (None, Some((major, _))) => unknown(&major.to_string()),
                (None, None) => Negotiated::NotAsked,
            };
            prop_assert_eq!(answer(&[value.as_bytes()]), expected, "{}", value);
        }
    }
}
