//! Any cookies, queries and baggage: answers are parts of the input, and merged baggage keeps its promises.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ombre_policy::{baggage, cookie, query};

fuzz_target!(|data: &[u8]| {
    // How often the values are repeated, to meet the limits of baggage; the name asked for; one value a line.
    let Some((times, data)) = data.split_first() else {
        return;
    };
    let mut lines = data.split(|byte| *byte == b'\n');
    let name = lines.next().unwrap_or_default();
    let given: Vec<&[u8]> = lines.collect();
    for value in &given {
        if let Some(found) = cookie::get(value, name) {
            assert!(!found.contains(&b';') && is_part(found, value));
        }
        let (path, rest) = query::split(value);
        assert!(value.starts_with(path) && is_part(rest, value));
        if let Some(found) = query::get(rest, name) {
            assert!(!found.contains(&b'&') && is_part(found, rest));
        }
        if let Some(found) = baggage::get(value, name) {
            assert!(!found.contains(&b',') && is_part(found, value));
        }
    }

    let values: Vec<&[u8]> = std::iter::repeat_n(&given, usize::from(*times))
        .flatten()
        .copied()
        .collect();
    let mut out = Vec::new();
    let merged = baggage::merge(values.iter().copied(), b"color", b"red", &mut out);
    assert!(merged.written && out.len() <= 8192);
    assert_eq!(baggage::get(&out, b"color"), Some(&b"red"[..]));

    // The others are the beginning of what there was, and what is missing was counted.
    let others: Vec<&[u8]> = values
        .iter()
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty() && baggage::get(member, b"color").is_none())
        .collect();
    let kept: Vec<&[u8]> = out.split(|byte| *byte == b',').skip(1).collect();
    assert!(kept.len() < 64 && others.starts_with(&kept));
    assert_eq!(kept.len() + merged.dropped, others.len());
});

fn is_part(part: &[u8], whole: &[u8]) -> bool {
    part.is_empty() || whole.windows(part.len()).any(|window| window == part)
}
