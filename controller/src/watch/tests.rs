use super::*;
use std::io::Write as _;
use std::os::unix::fs::symlink;

use futures_util::FutureExt;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(5);
const POLICY: &str = "policy.yaml";

struct Watched {
    dir: tempfile::TempDir,
    watch: Watch,
    inventory: Inventory,
}

impl Watched {
    async fn new(prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let inventory = Inventory::unread(&[dir.path().join(POLICY)]).again();
        let mut watch = Watch::default();
        watch.follow(&inventory);
        // The first call wakes once by itself.
        watch.changed().await;
        Self {
            dir,
            watch,
            inventory,
        }
    }

    /// Waits until the content is another one, as the loader would find out.
    async fn sees_a_change(&mut self, hint: Hint) {
        let seen = async {
            loop {
                let hint = self.watch.changed().await;
                if !self.inventory.same_content(&self.inventory.again()) {
                    return hint;
                }
            }
        };
        let found = timeout(SOON, seen).await.expect("no change was noticed");
        assert_eq!(found, hint);
        self.inventory = self.inventory.again();
        self.watch.follow(&self.inventory);
        self.watch.signal.written.store(false, Ordering::Release);
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

#[tokio::test]
async fn a_file_written_in_place_is_noticed() {
    let mut watched = Watched::new(|dir| write(dir, POLICY, "a")).await;
    write(watched.dir.path(), POLICY, "b");
    watched.sees_a_change(Hint::Written).await;
    write(watched.dir.path(), POLICY, "c");
    watched.sees_a_change(Hint::Written).await;
}

#[tokio::test]
async fn a_file_replaced_by_rename_is_noticed_again_and_again() {
    let mut watched = Watched::new(|dir| write(dir, POLICY, "0")).await;
    for number in 1..4 {
        let next = watched.dir.path().join("next");
        fs::write(&next, number.to_string()).unwrap();
        fs::rename(&next, watched.dir.path().join(POLICY)).unwrap();
        watched.sees_a_change(Hint::Written).await;
    }
}

#[tokio::test]
async fn a_file_that_comes_goes_and_comes_back_is_noticed() {
    let mut watched = Watched::new(|_| ()).await;
    for _ in 0..2 {
        write(watched.dir.path(), POLICY, "a");
        watched.sees_a_change(Hint::Written).await;
        fs::remove_file(watched.dir.path().join(POLICY)).unwrap();
        watched.sees_a_change(Hint::Written).await;
    }
}

#[tokio::test]
async fn a_swap_as_kubernetes_does_it_is_noticed() {
    let version = |dir: &Path, name: &str, text: &str| {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join(POLICY), text).unwrap();
    };
    let mut watched = Watched::new(|dir| {
        version(dir, "..v0", "0");
        symlink("..v0", dir.join("..data")).unwrap();
        symlink("..data/policy.yaml", dir.join(POLICY)).unwrap();
    })
    .await;
    for number in 1..4 {
        let dir = watched.dir.path();
        let (old, new) = (format!("..v{}", number - 1), format!("..v{number}"));
        version(dir, &new, &number.to_string());
        symlink(&new, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        let sees = watched.sees_a_change(Hint::Nearby);
        sees.await;
        fs::remove_dir_all(watched.dir.path().join(old)).unwrap();
    }
}

#[tokio::test]
async fn a_file_behind_a_symlink_into_another_directory_is_noticed() {
    let elsewhere = tempfile::tempdir().unwrap();
    write(elsewhere.path(), "real.yaml", "a");
    let real = elsewhere.path().join("real.yaml");
    let mut watched = Watched::new(|dir| symlink(&real, dir.join(POLICY)).unwrap()).await;
    fs::write(&real, "b").unwrap();
    watched.sees_a_change(Hint::Written).await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_watched_again() {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    fs::create_dir(&inner).unwrap();
    write(&inner, POLICY, "a");
    let inventory = Inventory::unread(&[inner.join(POLICY)]).again();
    let mut watch = Watch::default();
    watch.follow(&inventory);
    fs::rename(&inner, outer.path().join("old")).unwrap();
    fs::create_dir(&inner).unwrap();
    watch.follow(&inventory);
    watch.changed().await;
    write(&inner, POLICY, "b");
    timeout(SOON, watch.changed()).await.expect("noticed");
}

#[tokio::test]
async fn a_wait_that_is_cancelled_loses_no_write() {
    let watched = Watched::new(|dir| write(dir, POLICY, "a")).await;
    write(watched.dir.path(), POLICY, "b");
    let heard = async {
        while !watched.watch.signal.written.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, heard).await.expect("heard of");
    // Asked once, and given up.
    assert_eq!(watched.watch.changed().now_or_never(), None);
    let again = timeout(SOON, watched.watch.changed()).await;
    assert_eq!(again.expect("not lost"), Hint::Written);
}

#[tokio::test]
async fn a_file_that_is_being_written_is_not_read_before_it_is_closed() {
    let watched = Watched::new(|dir| write(dir, POLICY, "a")).await;
    let mut file = fs::File::create(watched.dir.path().join(POLICY)).unwrap();
    file.write_all(b"half").unwrap();
    // Whoever touches another file, or this one, does not close it.
    write(watched.dir.path(), "neighbour", "x");
    let early = timeout(2 * PATIENCE, watched.watch.changed()).await;
    assert!(early.is_err(), "it is open: {early:?}");
    assert!(watched.watch.is_being_written());
    file.write_all(b" and half").unwrap();
    drop(file);
    let closed = timeout(HELD / 2, watched.watch.changed()).await;
    assert_eq!(closed.expect("it is closed"), Hint::Written);
    assert!(!watched.watch.is_being_written());
}

#[tokio::test]
async fn a_file_that_nobody_closes_is_read_all_the_same() {
    let watched = Watched::new(|dir| write(dir, POLICY, "a")).await;
    let mut file = fs::File::create(watched.dir.path().join(POLICY)).unwrap();
    for text in [&b"all"[..], b"more"] {
        file.write_all(text).unwrap();
        let seen = timeout(SOON, watched.watch.changed()).await;
        assert_eq!(seen.expect("patience ends"), Hint::Written);
    }
}

#[tokio::test]
async fn reading_is_no_change_and_neighbours_are_only_near() {
    let watched = Watched::new(|dir| write(dir, POLICY, "a")).await;
    for _ in 0..10 {
        assert!(watched.inventory.same_content(&watched.inventory.again()));
    }
    write(watched.dir.path(), "neighbour", "x");
    assert_eq!(watched.watch.changed().await, Hint::Nearby);
    assert!(!watched.inventory.looks_touched());
}

#[tokio::test]
async fn a_file_that_is_written_without_end_is_read_all_the_same() {
    let watched = Watched::new(|dir| write(dir, POLICY, "a")).await;
    let path = watched.dir.path().join(POLICY);
    let writer = tokio::spawn(async move {
        loop {
            fs::write(&path, "b").unwrap();
            tokio::time::sleep(QUIET / 5).await;
        }
    });
    let seen = timeout(SOON, watched.watch.changed()).await;
    writer.abort();
    assert_eq!(seen.expect("patience ends"), Hint::Written);
}
