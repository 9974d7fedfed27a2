//! Any template and the regexes in it, any segment, and compiled patterns that are noise.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ombre_policy::pattern::Pattern;
use ombre_policy::template::{Segment, Template};

fuzz_target!(|data: &[u8]| {
    // A template, a segment, and noise that also says where a compiled pattern is damaged, and by what.
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let Ok(template) = str::from_utf8(lines.next().unwrap_or_default()) else {
        return;
    };
    let segment = lines.next().unwrap_or_default();
    let noise = lines.next().unwrap_or_default();

    let regexes: Vec<String> = match Template::parse(template) {
        Ok(template) => template
            .segments()
            .iter()
            .filter_map(|segment| match segment {
                Segment::Pattern { regex, .. } => Some(regex.clone()),
                _ => None,
            })
            .collect(),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Vec::new()
        }
    };
    // The template as a regex of its own too: most texts are one, few hold one.
    for regex in regexes.iter().map(String::as_str).chain([template]) {
        let Ok(pattern) = Pattern::compile(regex) else {
            continue;
        };
        let matches = pattern.matches(segment);
        let mut bytes = pattern.as_bytes().to_vec();
        let read = Pattern::from_bytes(bytes.clone()).expect("what was compiled is read back");
        assert_eq!(read.matches(segment), matches);

        for damage in noise.chunks_exact(3) {
            let at = usize::from(damage[0]) << 8 | usize::from(damage[1]);
            let len = bytes.len();
            bytes[at % len] = damage[2];
        }
        if let Ok(damaged) = Pattern::from_bytes(bytes) {
            let _ = damaged.matches(segment);
        }
    }
    if let Ok(pattern) = Pattern::from_bytes(noise.to_vec()) {
        let _ = pattern.matches(segment);
    }
});
