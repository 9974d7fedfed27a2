//! Cases and properties of W3C baggage.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// Name, input, expected answer.
type Case = (&'static str, &'static [u8], Option<&'static [u8]>);

fn merged(existing: &[&[u8]], value: &str) -> (String, Merged) {
    let mut out = b"left over".to_vec();
    let merged = merge(
        existing.iter().copied(),
        b"color",
        value.as_bytes(),
        &mut out,
    );
    (String::from_utf8_lossy(&out).into_owned(), merged)
}

#[test]
fn the_first_member_of_the_key_answers() {
    let cases: [Case; 13] = [
        ("alone", b"color=red", Some(b"red")),
        ("second", b"a=1,color=red", Some(b"red")),
        ("spaces", b"a=1 , color = red ", Some(b"red")),
        ("properties", b"color=red;ttl=3;secret", Some(b"red")),
        (
            "property_of_another",
            b"a=1;color=blue,color=red",
            Some(b"red"),
        ),
        ("first_of_two", b"color=red,color=blue", Some(b"red")),
        ("encoded", b"color=%72ed", Some(b"%72ed")),
        ("empty_value", b"color=", Some(b"")),
        ("no_equals", b"color", None),
        ("no_equals_before_properties", b"color;a=1", None),
        ("other_case", b"Color=red", None),
        ("empty", b"", None),
        ("only_separators", b",,;=,", None),
    ];
    for (name, value, expected) in cases {
        assert_eq!(get(value, b"color"), expected, "{name}");
    }
}

#[test]
fn our_member_leads_and_the_others_stay_as_they_are() {
    let cases: [(&str, &[&[u8]], &str); 8] = [
        ("none", &[], "color=red"),
        ("empty", &[b""], "color=red"),
        ("others", &[b"a=1,b=2"], "color=red,a=1,b=2"),
        (
            "properties",
            &[b"a=1;p=%20; q,b = 2;r"],
            "color=red,a=1;p=%20; q,b = 2;r",
        ),
        (
            "replaced",
            &[b"a=1,color=blue;p=1,b=2"],
            "color=red,a=1,b=2",
        ),
        (
            "duplicates",
            &[b"color=blue,a=1", b"color = x,b=2"],
            "color=red,a=1,b=2",
        ),
        ("empty_members", &[b",a=1,, ,b=2,"], "color=red,a=1,b=2"),
        (
            "unreadable_member",
            &[b"a,color,b=2"],
            "color=red,a,color,b=2",
        ),
    ];
    for (name, existing, expected) in cases {
        let whole = Merged {
            dropped: 0,
            written: true,
        };
        assert_eq!(
            merged(existing, "red"),
            (expected.to_owned(), whole),
            "{name}"
        );
    }
}

#[test]
fn a_list_is_cut_at_64_members() {
    let existing: Vec<String> = (0..70).map(|n| format!("k{n}=v")).collect();
    let (list, outcome) = merged(&[existing.join(",").as_bytes()], "red");
    assert_eq!(
        outcome,
        Merged {
            dropped: 7,
            written: true
        }
    );
    assert_eq!(list.split(',').count(), 64);
    assert!(list.ends_with(",k62=v"));
}

#[test]
fn a_list_is_cut_at_8192_bytes_and_never_thinned() {
    // `color=red,a=` leaves 8180 bytes.
    let fits = format!("a={}", "x".repeat(8180));
    assert_eq!(merged(&[fits.as_bytes()], "red").0.len(), 8192);
    let too_long = format!("b={},c=1", "x".repeat(8181));
    let (list, outcome) = merged(&[too_long.as_bytes()], "red");
    assert_eq!(
        (list.as_str(), outcome),
        (
            "color=red",
            Merged {
                dropped: 2,
                written: true
            }
        )
    );
}

#[test]
fn a_member_of_ours_that_cannot_fit_is_left_out_alone() {
    let (list, outcome) = merged(&[b"a=1"], &"x".repeat(8187));
    assert_eq!(
        (list.as_str(), outcome),
        (
            "a=1",
            Merged {
                dropped: 0,
                written: false
            }
        )
    );
    assert_eq!(merged(&[], &"x".repeat(8186)).0.len(), 8192);
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_merged_within_the_limits(
            existing in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6000), 0..4),
            commas in 0..100_usize,
        ) {
            let commas = "a=1,".repeat(commas);
            let mut out = Vec::new();
            let values = existing.iter().map(Vec::as_slice).chain([commas.as_bytes()]);
            merge(values, b"color", b"red", &mut out);
            prop_assert!(out.len() <= 8192 && out.split(|&byte| byte == b',').count() <= 64);
            prop_assert_eq!(get(&out, b"color"), Some(&b"red"[..]));
        }

        #[test]
        fn merging_twice_is_merging_once(existing in "([a-c]|color)[= ;,]{0,2}[a-z0-9,;= ]{0,40}") {
            let once = merged(&[existing.as_bytes()], "red").0;
            prop_assert_eq!(merged(&[once.as_bytes()], "red").0, once);
        }

        #[test]
        fn members_of_others_are_kept_in_order(others in proptest::collection::vec("[a-f]=[a-z;= ]{0,9}[a-z]", 0..20)) {
            let (list, _) = merged(&[others.join(" , ").as_bytes()], "red");
            let kept: Vec<&str> = list.split(',').skip(1).collect();
            prop_assert_eq!(kept, others);
        }
    }
}
