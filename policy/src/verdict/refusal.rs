//! A request that is answered here: with a status that says what, and a JSON body that says why.

use crate::plan::ServicePlan;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The path is below a prefix of `DISABLE_ROUTES`.
    DisabledPath,
    /// A decision disabled the route.
    DisabledRoute,
    /// The wanted version is not configured, and the service rejects that.
    UnknownVersion,
    /// The version's writes are frozen.
    FrozenWrites,
}

/// The answer.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    pub(crate) why: Refused,
    pub(crate) status: u32,
    /// Seconds.
    pub(crate) retry_after: Option<u32>,
    pub(crate) service: Option<&'a ServicePlan>,
}

impl Refused {
    /// The word in the body's `error`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DisabledPath => "disabled_path",
            Self::DisabledRoute => "disabled_route",
            Self::UnknownVersion => "unknown_version",
            Self::FrozenWrites => "frozen_writes",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::DisabledPath | Self::DisabledRoute => "this route is switched off",
            Self::UnknownVersion => "the version that was asked for is not served",
            Self::FrozenWrites => "writes are paused while the service moves to another version",
        }
    }
}

impl Refusal<'_> {
    /// Why.
    pub const fn why(&self) -> Refused {
        self.why
    }

    /// The HTTP status.
    pub const fn status(&self) -> u32 {
        self.status
    }

    /// Seconds for `Retry-After`, where trying again can help.
    pub const fn retry_after(&self) -> Option<u32> {
        self.retry_after
    }

    /// The body, as `application/json`.
    pub fn body(&self) -> String {
        let (error, message) = (self.why.name(), self.why.message());
        let mut body = format!(r#"{{"error":"{error}","message":"{message}""#);
        if let Some(service) = self.service {
            // Names were checked to hold nothing that JSON would have to escape.
            body.push_str(&format!(r#","service":"{}""#, service.name));
            if self.why == Refused::UnknownVersion {
                let names = service
                    .versions
                    .iter()
                    .map(|version| format!(r#""{}""#, version.name));
                body.push_str(&format!(
                    r#","versions":[{}]"#,
                    names.collect::<Vec<_>>().join(",")
                ));
            }
        }
        body.push('}');
        body
    }
}
