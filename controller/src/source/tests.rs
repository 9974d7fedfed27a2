use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

fn message(path: &Path) -> String {
    match Reader::default().policies(&[path.to_owned()]) {
        Ok(_) => panic!("{} was read", path.display()),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_fix() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("latin1"), b"a: b\nc: caf\xe9\n").unwrap();
    fs::write(at("large"), vec![b'x'; LARGEST_FILE as usize + 1]).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    for (name, expected) in [
        ("missing", "no such file; check the path"),
        ("dangling", "no such file; check the path"),
        ("directory", "is a directory; name the file in it"),
        ("latin1", "latin1:2: not UTF-8 text: line 2 has a byte 0xe9"),
        ("large", "16777217 bytes are more than the 16777216"),
        ("loop", "cannot be read: "),
    ] {
        let found = message(&at(name));
        assert!(found.contains(expected), "{name}: {found}");
        assert!(found.contains(name), "{name}: {found}");
    }
    let special = message(Path::new("/dev/zero"));
    assert!(special.contains("is not a regular file"), "{special}");
}

#[test]
fn a_file_without_permission_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret.yaml");
    fs::write(&path, "a: b").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything, so that there is nothing to see when the tests run as root.
    if File::open(&path).is_err() {
        assert!(message(&path).contains("no permission to read it"));
    }
}

#[test]
fn files_beside_a_policy_are_read_and_remembered_even_when_they_fail() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    fs::write(dir.path().join("ab.yaml"), "x").unwrap();
    let reader = Reader::default();
    let beside = policy.display().to_string();
    assert_eq!(reader.read(&beside, "ab.yaml").unwrap().text, "x");
    let error = reader.read(&beside, "none.yaml").err().unwrap();
    assert!(error.contains("none.yaml`: no such file"), "{error}");
    let inventory = reader.inventory();
    let names: Vec<_> = inventory.paths().filter_map(Path::file_name).collect();
    assert_eq!(names, ["ab.yaml", "none.yaml"]);
    assert!(!inventory.looks_touched());
    fs::write(dir.path().join("none.yaml"), "y").unwrap();
    assert!(inventory.looks_touched());
    assert!(!inventory.same_content(&inventory.again()));
}

#[test]
fn a_touched_file_with_the_same_text_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.yaml");
    fs::write(&path, "a").unwrap();
    let inventory = Inventory::unread(std::slice::from_ref(&path)).again();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "a").unwrap();
    assert!(inventory.same_content(&inventory.again()));
    fs::write(&path, "b").unwrap();
    assert!(!inventory.same_content(&inventory.again()), "equal in size");
}
