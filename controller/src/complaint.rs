//! How a command says why it failed: in one line, and without the backtrace that anyhow adds where
//! `RUST_BACKTRACE` is set, since users read it.

/// The error and its causes. A cause that the words before it have named already is left out: many
/// errors have theirs in their text.
#[must_use]
pub fn complaint(error: &anyhow::Error) -> String {
    let mut told = format!("error: {error}");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_once() {
        for (case, causes, expected) in [
            ("no cause", &["it broke"][..], "error: it broke"),
            (
                "a new one",
                &["refused", "no answer"],
                "error: no answer: refused",
            ),
            (
                "told before",
                &["refused", "no answer: refused", "status"],
                "error: status: no answer: refused",
            ),
        ] {
            let (root, more) = causes.split_first().unwrap_or((&"", &[]));
            let error = more.iter().fold(anyhow::anyhow!("{root}"), |error, text| {
                error.context(text.to_string())
            });
            assert_eq!(complaint(&error), expected, "{case}");
        }
    }
}
