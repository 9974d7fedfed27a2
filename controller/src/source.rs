//! Reads policy files and what they refer to, and remembers everything it read or failed to
//! read, so that all of it can be watched. Every failure names the file and the fix.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ombre_policy::load::{Files, SourceFile};
use ombre_policy::problem::{Problem, Problems};
use xxhash_rust::xxh64::xxh64;

/// The largest file that is read, in bytes. 100,000 routes with hosts and methods take about 10 MiB.
pub const LARGEST_FILE: u64 = 16 << 20;

/// Reads files and takes note of each.
#[derive(Debug, Default)]
pub struct Reader {
    seen: RefCell<BTreeMap<PathBuf, Seen>>,
}

/// The files of one load, as they were found then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    files: BTreeMap<PathBuf, Seen>,
}

/// Why a file is of no use. The message ends with the fix.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing is there.
    #[error("no such file; check the path, or create it")]
    Missing,
    /// It may not be read.
    #[error("no permission to read it; let the user that runs ombre read it (chmod, chown)")]
    Forbidden,
    /// A directory.
    #[error("is a directory; name the file in it")]
    Directory,
    /// A pipe, a socket or a device, which might never end.
    #[error("is not a regular file; name a regular file")]
    Special,
    /// Too large.
    #[error(
        "{0} bytes are more than the {LARGEST_FILE} that a file may have; split it into several"
    )]
    Large(u64),
    /// Not text.
    #[error("not UTF-8 text: line {line} has a byte {byte:#04x}; save it as UTF-8")]
    NotText {
        /// The line, from one.
        line: u64,
        /// The first byte that does not fit.
        byte: u8,
    },
    /// Anything else.
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
}

/// What a file looked like: cheap to compare by stamp, sure to compare by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    stamp: Option<Stamp>,
    content: u64,
}

/// What changes when a file is written or replaced: device, inode, size, and times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp([i128; 5]);

impl Reader {
    /// Reads the policy files.
    ///
    /// # Errors
    /// One problem for each file that is of no use.
    pub fn policies(&self, paths: &[PathBuf]) -> Result<Vec<SourceFile>, Problems> {
        let mut sources = Vec::new();
        let mut problems = Vec::new();
        for path in paths {
            match self.text(path) {
                Ok(text) => sources.push(SourceFile {
                    name: path.display().to_string(),
                    text,
                }),
                Err(error) => problems.push(problem(path, &error)),
            }
        }
        Problems::none_of(problems)?;
        Ok(sources)
    }

    /// What was read until now.
    pub fn inventory(&self) -> Inventory {
        Inventory {
            files: self.seen.borrow().clone(),
        }
    }

    fn text(&self, path: &Path) -> Result<String, SourceError> {
        // The stamp comes first: a write between the two shows up as a newer stamp later.
        let stamp = Stamp::of(path);
        let text = read(path);
        let content = fingerprint(&text);
        self.seen
            .borrow_mut()
            .insert(path.to_owned(), Seen { stamp, content });
        text
    }
}

impl Files for Reader {
    fn read(&self, beside: &str, path: &str) -> Result<SourceFile, String> {
        let path = Path::new(beside)
            .parent()
            .unwrap_or(Path::new(""))
            .join(path);
        match self.text(&path) {
            Ok(text) => Ok(SourceFile {
                name: path.display().to_string(),
                text,
            }),
            Err(error) => Err(format!("`{}`: {error}", path.display())),
        }
    }
}

impl Inventory {
    /// The inventory before anything was read: these paths, none of them known.
    pub fn unread(paths: &[PathBuf]) -> Self {
        let unknown = Seen {
            stamp: None,
            content: 0,
        };
        Self {
            files: paths.iter().map(|path| (path.clone(), unknown)).collect(),
        }
    }

    /// The paths, as they were named.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Whether any file looks other than it did, from its metadata alone.
    pub fn looks_touched(&self) -> bool {
        let touched = |(path, seen): (&PathBuf, &Seen)| Stamp::of(path) != seen.stamp;
        self.files.iter().any(touched)
    }

    /// The same files as they are now, in stamp and content.
    pub fn again(&self) -> Self {
        let reader = Reader::default();
        for path in self.paths() {
            // Failures are part of what is compared.
            let _ = reader.text(path);
        }
        reader.inventory()
    }

    /// Whether the contents (or the failures to read them) are the same.
    pub fn same_content(&self, other: &Self) -> bool {
        let contents = |inventory: &Self| -> Vec<(PathBuf, u64)> {
            let pair = |(path, seen): (&PathBuf, &Seen)| (path.clone(), seen.content);
            inventory.files.iter().map(pair).collect()
        };
        contents(self) == contents(other)
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        let nanoseconds =
            |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Some(Self([
            meta.dev().into(),
            meta.ino().into(),
            meta.size().into(),
            nanoseconds(meta.mtime(), meta.mtime_nsec()),
            nanoseconds(meta.ctime(), meta.ctime_nsec()),
        ]))
    }
}

fn problem(path: &Path, error: &SourceError) -> Problem {
    let line = match error {
        SourceError::NotText { line, .. } => Some(*line),
        _ => None,
    };
    Problem {
        file: path.display().to_string(),
        line,
        column: None,
        path: String::new(),
        message: error.to_string(),
    }
}

fn read(path: &Path) -> Result<String, SourceError> {
    let meta = fs::metadata(path).map_err(failure)?;
    if meta.is_dir() {
        return Err(SourceError::Directory);
    }
    // Opening a pipe would wait for a writer for ever.
    if !meta.is_file() {
        return Err(SourceError::Special);
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(failure)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(SourceError::Large(meta.len()));
    }
    String::from_utf8(bytes).map_err(|error| not_text(&error))
}

fn failure(error: io::Error) -> SourceError {
    match error.kind() {
        io::ErrorKind::NotFound => SourceError::Missing,
        io::ErrorKind::PermissionDenied => SourceError::Forbidden,
        _ => SourceError::Read(error),
    }
}

fn not_text(error: &std::string::FromUtf8Error) -> SourceError {
    let (good, bad) = error
        .as_bytes()
        .split_at_checked(error.utf8_error().valid_up_to())
        .unwrap_or_default();
    let newlines = good.iter().filter(|byte| **byte == b'\n').count();
    SourceError::NotText {
        line: newlines as u64 + 1,
        byte: bad.first().copied().unwrap_or_default(),
    }
}

fn fingerprint(text: &Result<String, SourceError>) -> u64 {
    match text {
        Ok(text) => xxh64(text.as_bytes(), 0),
        Err(error) => xxh64(error.to_string().as_bytes(), 1),
    }
}

#[cfg(test)]
mod tests;
