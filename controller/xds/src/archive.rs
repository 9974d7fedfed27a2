//! Which clusters were sent under which version. An Envoy that comes back on a state-of-the-world
//! stream says only the version of what it has, and loses what the first response leaves out: so
//! what its routes still refer to has to be known, also to a controller that was started anew.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use tracing::warn;

use crate::snapshot::{Resource, Resources, Type, Version};

/// One swap makes two, and an Envoy that was away longer than this many loses requests for a moment.
const MOST: usize = 32;

/// The states of clusters that were sent last, by version.
#[derive(Debug, Default)]
pub struct Archive {
    states: Mutex<VecDeque<State>>,
    file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct State {
    version: Version,
    clusters: Vec<Arc<Resource>>,
}

impl Archive {
    /// One that is kept in a file and outlives the process. A file that cannot be read is begun anew.
    pub fn open(file: PathBuf) -> Self {
        let states = match fs::read(&file) {
            Ok(bytes) => decode(&bytes).unwrap_or_else(|error| {
                warn!(file = %file.display(), %error, "the clusters that envoys have are not known: a version that was removed meanwhile may be missed for a moment");
                VecDeque::new()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    warn!(file = %file.display(), %error, "the clusters that envoys have are not known");
                }
                VecDeque::new()
            }
        };
        Self {
            states: Mutex::new(states),
            file: Some(file),
        }
    }

    /// What was sent under this version.
    pub fn find(&self, version: Version) -> Option<Resources> {
        let states = self.states();
        let state = states.iter().find(|state| state.version == version)?;
        let clusters = state.clusters.iter().cloned();
        Some(clusters.map(|one| (one.name().to_owned(), one)).collect())
    }

    /// Whether this version was kept; from now on it is the last to be forgotten.
    pub(crate) fn has(&self, version: Version) -> bool {
        let mut states = self.states();
        let at = states.iter().position(|state| state.version == version);
        let found = at.and_then(|at| states.remove(at));
        let has = found.is_some();
        states.extend(found);
        has
    }

    /// Keeps what is about to be sent. Writes to the disk, and only warns when that fails: what is
    /// kept matters to nobody but an Envoy that comes back after a restart.
    pub(crate) fn keep(&self, version: Version, clusters: Vec<Arc<Resource>>) {
        let mut states = self.states();
        states.retain(|state| state.version != version);
        states.push_back(State { version, clusters });
        while states.len() > MOST {
            states.pop_front();
        }
        let Some(file) = &self.file else {
            return;
        };
        // Under the lock, so that an older state of the file never takes the place of a newer one.
        if let Err(error) = replace(file, &encode(&states)) {
            warn!(file = %file.display(), %error, "the clusters that envoys have are not kept");
        }
    }

    fn states(&self) -> MutexGuard<'_, VecDeque<State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One message of the protocol after the other, each after its length.
fn encode(states: &VecDeque<State>) -> Vec<u8> {
    let messages = states.iter().map(|state| {
        let resources = state.clusters.iter().map(|one| pb::Resource {
            name: one.name().to_owned(),
            resource: Some(Any {
                type_url: Type::Cluster.url().to_owned(),
                value: one.body().to_vec(),
            }),
            ..pb::Resource::default()
        });
        let message = pb::DeltaDiscoveryResponse {
            system_version_info: state.version.to_string(),
            resources: resources.collect(),
            ..pb::DeltaDiscoveryResponse::default()
        };
        message.encode_length_delimited_to_vec()
    });
    messages.flatten().collect()
}

fn decode(mut bytes: &[u8]) -> Result<VecDeque<State>, prost::DecodeError> {
    let mut states = VecDeque::new();
    while !bytes.is_empty() {
        let message = pb::DeltaDiscoveryResponse::decode_length_delimited(&mut bytes)?;
        let clusters = message.resources.into_iter().map(|one| {
            let body = one.resource.unwrap_or_default().value;
            Arc::new(Resource::new(one.name, body))
        });
        let clusters: Vec<Arc<Resource>> = clusters.collect();
        // What was damaged has another hash than it says, and would be believed otherwise.
        let version = Version::of_all(clusters.iter().map(AsRef::as_ref));
        if message.system_version_info == version.to_string() {
            states.push_back(State { version, clusters });
        }
    }
    Ok(states)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::create(&next)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&next, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(names: &[&str]) -> (Version, Vec<Arc<Resource>>) {
        let resources = names
            .iter()
            .map(|name| Resource::new(*name, name.as_bytes().to_vec()));
        let resources: Vec<Arc<Resource>> = resources.map(Arc::new).collect();
        (
            Version::of_all(resources.iter().map(AsRef::as_ref)),
            resources,
        )
    }

    #[test]
    fn what_was_sent_is_found_by_its_version_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clusters");
        let archive = Archive::open(path.clone());
        let (one, clusters) = state(&["a", "b"]);
        let (other, _) = state(&["a"]);
        archive.keep(one, clusters);
        for archive in [archive, Archive::open(path.clone())] {
            let found = archive.find(one).unwrap();
            assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b"]);
            assert_eq!(found["b"].body(), b"b");
            assert!(archive.find(other).is_none());
        }
        fs::write(&path, b"\x05ab").unwrap();
        assert!(Archive::open(path).find(one).is_none());
    }

    #[test]
    fn the_state_that_was_used_longest_ago_is_forgotten() {
        let archive = Archive::default();
        let (first, clusters) = state(&["first"]);
        let (second, others) = state(&["second"]);
        archive.keep(first, clusters);
        archive.keep(second, others);
        assert!(archive.has(first));
        for number in 0..MOST - 1 {
            let (version, clusters) = state(&[&number.to_string()]);
            archive.keep(version, clusters);
        }
        assert!(archive.find(second).is_none());
        assert!(archive.find(first).is_some());
    }

    #[test]
    fn a_place_that_cannot_be_written_does_not_matter_before_a_restart() {
        let archive = Archive::open(PathBuf::from("/nowhere/clusters"));
        let (version, clusters) = state(&["a"]);
        archive.keep(version, clusters);
        assert!(archive.has(version));
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
