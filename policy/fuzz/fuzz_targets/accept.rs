//! Any `Accept` values, one a line: the version negotiated is a configured one, and an unknown one only if none was named.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ombre_policy::accept::{Negotiated, negotiate};
use ombre_policy::version::Wanted;

fuzz_target!(|data: &[u8]| {
    let values: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let configured = |wanted: Wanted| wanted.major % 2 == 0;
    let mut named = Vec::new();
    let answer = negotiate(values.iter().copied(), |wanted| {
        named.push(wanted);
        configured(wanted)
    });
    match answer {
        Negotiated::NotAsked => assert!(named.is_empty()),
        Negotiated::Version(wanted) => assert!(configured(wanted) && named.contains(&wanted)),
        Negotiated::Unknown(wanted) => {
            assert!(named.contains(&wanted) && !named.iter().any(|named| configured(*named)));
        }
    }
    // Ranges in one value or in several are the same, unless a quote is open across them.
    if !values.iter().any(|value| value.contains(&b'"')) {
        let joined = values.join(&b","[..]);
        assert_eq!(
            negotiate([joined.as_slice()].into_iter(), configured),
            answer
        );
    }
});
