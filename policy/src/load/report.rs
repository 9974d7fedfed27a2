//! Collects what is wrong while a policy is validated: each finding at its place.

use std::sync::Arc;

/// A place in a file: what a path like `services[0].routes[1].path` names.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    file: Arc<str>,
    path: String,
}

/// Something found at a place.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) place: Place,
    pub(crate) message: String,
}

/// What was found so far. Errors keep the policy from loading, warnings do not.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) errors: Vec<Finding>,
    pub(crate) warnings: Vec<Finding>,
}

impl Place {
    /// The whole of a file.
    pub(crate) fn whole(file: &str) -> Self {
        Self {
            file: file.into(),
            path: String::new(),
        }
    }

    /// The value of a key in the map at this place.
    pub(crate) fn key(&self, key: &str) -> Self {
        let separator = if self.path.is_empty() { "" } else { "." };
        self.with(format!("{}{separator}{key}", self.path))
    }

    /// An item of the list at this place.
    pub(crate) fn item(&self, index: usize) -> Self {
        self.with(format!("{}[{index}]", self.path))
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn with(&self, path: String) -> Self {
        Self {
            file: Arc::clone(&self.file),
            path,
        }
    }
}

impl Report {
    pub(crate) fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.errors.push(Finding {
            place: place.clone(),
            message: message.into(),
        });
    }

    pub(crate) fn warning(&mut self, place: &Place, message: impl Into<String>) {
        self.warnings.push(Finding {
            place: place.clone(),
            message: message.into(),
        });
    }

    /// The value, or `None` and an error.
    pub(crate) fn take<T, E: ToString>(
        &mut self,
        place: &Place,
        result: Result<T, E>,
    ) -> Option<T> {
        result
            .map_err(|error| self.error(place, error.to_string()))
            .ok()
    }
}
