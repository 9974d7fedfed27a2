//! Every file in `good/` loads; every file in `bad/` fails with exactly the text beside it.
//! `OMBRE_BLESS=1` writes the texts anew, to be read before they are committed.

#![expect(clippy::expect_used, reason = "a test that cannot go on must stop")]

use std::fs;
use std::path::{Path, PathBuf};

use ombre_policy::load::{Files, Loaded, SourceFile, load};
use ombre_policy::problem::Problems;

struct Beside(PathBuf);

impl Files for Beside {
    fn read(&self, _: &str, path: &str) -> Result<SourceFile, String> {
        let text = fs::read_to_string(self.0.join(path))
            .map_err(|_| format!("`{path}` cannot be read: no such file"))?;
        Ok(SourceFile {
            name: path.to_owned(),
            text,
        })
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

fn load_file(path: &Path) -> Result<Loaded, Problems> {
    let text = fs::read_to_string(path).expect("fixture");
    let name = path
        .file_name()
        .expect("name")
        .to_string_lossy()
        .into_owned();
    load(&[SourceFile { name, text }], &Beside(folder("good")))
}

fn policies(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(name)).expect("folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    paths.retain(|path| !path.ends_with("ab-strategy.yaml"));
    paths.sort();
    paths
}

#[test]
fn good_policies_load_without_a_warning() {
    for path in policies("good") {
        match load_file(&path) {
            Ok(loaded) => assert_eq!(loaded.warnings, [], "{}", path.display()),
            Err(problems) => panic!("{}: {problems}", path.display()),
        }
    }
}

#[test]
fn bad_policies_fail_with_place_and_fix() {
    let bad = policies("bad");
    assert!(bad.len() > 30);
    for path in bad {
        let Err(problems) = load_file(&path) else {
            panic!("{} loads", path.display());
        };
        let beside = path.with_extension("txt");
        if std::env::var_os("OMBRE_BLESS").is_some() {
            fs::write(&beside, format!("{problems}\n")).expect("write");
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(format!("{problems}\n"), expected, "{}", path.display());
    }
}
