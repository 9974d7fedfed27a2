//! Stands in for `ombre_policy::in_force` until it lands.
#![expect(missing_docs, reason = "goes away")]

use ombre_policy::document::{DocumentError, Kind, Revision, open};
use ombre_policy::headers::HeaderMap;

#[derive(Clone, Debug, Default)]
pub struct Switches {
    pub line: String,
}
#[derive(Clone, Copy, Debug, Default)]
pub struct Compiled {
    pub route_version: Option<&'static str>,
}
impl Switches {
    pub fn resolve(
        compiled: Compiled,
        env: impl Fn(&str) -> Option<String>,
    ) -> (Self, Vec<String>) {
        let version = env("ROUTE_VERSION").or(compiled.route_version.map(str::to_owned));
        (
            Self {
                line: format!("route_version={}", version.unwrap_or_default()),
            },
            vec![],
        )
    }
    pub fn describe(&self) -> String {
        self.line.clone()
    }
}

#[derive(Debug, Default)]
pub struct InForce {
    policy: Revision,
    decisions: Revision,
    lines: Vec<(String, String)>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Policy(Revision),
    Decisions(Revision),
    NotNewer,
}
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Document(DocumentError),
    #[error("decisions are for policy {made_for}")]
    OtherPolicy { made_for: Revision },
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    InvalidColor,
    Minted,
}
impl Count {
    pub const ALL: [Self; 2] = [Self::InvalidColor, Self::Minted];
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidColor => "invalid_color",
            Self::Minted => "minted",
        }
    }
}
pub enum Verdict<'a> {
    Pass,
    Route(Routed<'a>),
    Refuse(Refusal),
}
pub struct Routed<'a>(&'a [(String, String)], [u8; 16]);
pub struct Refusal;

impl InForce {
    pub fn new(_: Switches) -> Self {
        Self::default()
    }
    pub fn take(&mut self, bytes: &[u8]) -> Result<Taken, Refused> {
        let document = open(bytes).map_err(Refused::Document)?;
        match document.kind {
            Kind::Policy if document.revision > self.policy => {
                let text = std::str::from_utf8(document.body)
                    .map_err(|_| Refused::Document(DocumentError::Body))?;
                self.lines = text
                    .lines()
                    .filter_map(|line| line.split_once(": "))
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                self.policy = document.revision;
                Ok(Taken::Policy(self.policy))
            }
            Kind::Decisions if document.revision > self.decisions => {
                if document.policy_revision != self.policy {
                    return Err(Refused::OtherPolicy {
                        made_for: document.policy_revision,
                    });
                }
                self.decisions = document.revision;
                Ok(Taken::Decisions(self.decisions))
            }
            _ => Ok(Taken::NotNewer),
        }
    }
    pub fn policy_revision(&self) -> Revision {
        self.policy
    }
    pub fn decisions_revision(&self) -> Revision {
        self.decisions
    }
    pub fn decide<'a>(
        &'a mut self,
        headers: HeaderMap<'a>,
        entropy: impl FnOnce() -> [u8; 16],
    ) -> Verdict<'a> {
        if headers.single(b"x-crash").value().is_some() {
            std::process::abort();
        }
        if headers.single(b"x-refuse").value().is_some() {
            return Verdict::Refuse(Refusal);
        }
        if self.lines.is_empty() {
            Verdict::Pass
        } else {
            Verdict::Route(Routed(&self.lines, entropy()))
        }
    }
}
const NAMES: [&str; 3] = ["x-ombre-cluster", "x-ombre-decision", "x-ombre-set-cookie"];
impl Verdict<'_> {
    pub fn counts(&self) -> impl Iterator<Item = Count> + use<> {
        matches!(self, Self::Route(_))
            .then_some(Count::Minted)
            .into_iter()
    }
}
impl Routed<'_> {
    pub fn write(&self, mut set: impl FnMut(&'static str, &[u8])) {
        for (name, value) in self.0 {
            for known in NAMES {
                if known == name {
                    set(known, value.as_bytes());
                }
            }
        }
    }
}
impl Refusal {
    pub fn status(&self) -> u32 {
        406
    }
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        vec![("content-type", "application/json".to_owned())]
    }
    pub fn body(&self) -> Vec<u8> {
        b"{}".to_vec()
    }
}
