use super::*;

#[test]
fn a_revision_is_asked_for_by_number() {
    for (query, expected) in [
        ("", Some(0)),
        ("after=0", Some(0)),
        ("after=1700000000000", Some(1_700_000_000_000)),
        ("after=9007199254740993", Some((1 << 53) + 1)),
        ("after=18446744073709551616", None),
        ("after=-1", None),
        ("after=", None),
        ("after", None),
        ("before=1", None),
        ("after=1&x=2", None),
    ] {
        let found = after(query).ok().map(Revision::get);
        assert_eq!(found, expected, "{query}");
    }
}

#[test]
fn patience_is_spread() {
    let longest = Duration::from_secs(30);
    let times: Vec<_> = (0..100).map(|_| patience(longest)).collect();
    assert!(
        times
            .iter()
            .all(|time| *time <= longest && *time >= longest * 9 / 10)
    );
    assert!(times.iter().any(|time| Some(time) != times.first()));
}
