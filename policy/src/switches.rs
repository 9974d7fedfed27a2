//! Switches (§2.5): what is compiled into a filter, and what the environment that Envoy gives its
//! VM (`vm_config.environment_variables`) overrides at run time. Build once, switch anywhere.

use crate::version::Wanted;

/// Overrides the default version.
pub const ROUTE_VERSION: &str = "ROUTE_VERSION";
/// Overrides which features run.
pub const ROUTE_FEATURES: &str = "ROUTE_FEATURES";
/// Path prefixes that answer 404.
pub const DISABLE_ROUTES: &str = "DISABLE_ROUTES";

/// Parts of the data plane that can be left out of a build or switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureSwitch {
    /// Experiments, with `x-ombre-group` and `x-ombre-features`.
    Experiments,
    /// The rollout's share.
    Rollout,
    /// `x-api-version`, `x-env-stage` and `x-build-id`.
    Metadata,
    /// The color in W3C `baggage`.
    Baggage,
    /// The verification channel.
    Verification,
}

/// Which features run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(u8);

/// What was chosen when the filter was built.
#[derive(Clone, Copy, Debug)]
pub struct Compiled {
    /// The default version, as it would be in `ROUTE_VERSION`.
    pub route_version: Option<&'static str>,
    /// Which features are in the build.
    pub features: Features,
}

/// What is in force in one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switches {
    route_version: Option<Wanted>,
    features: Features,
    /// Each prefix in segments.
    disabled: Vec<Vec<String>>,
}

impl FeatureSwitch {
    /// Every feature.
    pub const ALL: [Self; 5] = [
        Self::Experiments,
        Self::Rollout,
        Self::Metadata,
        Self::Baggage,
        Self::Verification,
    ];

    /// The word in `ROUTE_FEATURES`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Experiments => "experiments",
            Self::Rollout => "rollout",
            Self::Metadata => "metadata",
            Self::Baggage => "baggage",
            Self::Verification => "verification",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Features {
    /// All of them.
    pub const ALL: Self = Self(u8::MAX);
    /// None of them.
    pub const NONE: Self = Self(0);

    /// The same and one more.
    #[must_use]
    pub const fn with(self, feature: FeatureSwitch) -> Self {
        Self(self.0 | feature.bit())
    }

    /// Whether a feature runs.
    pub const fn has(self, feature: FeatureSwitch) -> bool {
        self.0 & feature.bit() != 0
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            route_version: None,
            features: Features::ALL,
            disabled: Vec::new(),
        }
    }
}

impl Switches {
    /// What is in force when `env` looks up the VM's environment. A variable that makes no sense
    /// is told and changes nothing: a filter that would not start serves nobody.
    pub fn resolve(
        compiled: Compiled,
        env: impl Fn(&str) -> Option<String>,
    ) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let mut route_version = compiled
            .route_version
            .and_then(|text| Wanted::parse(text.as_bytes()));
        if let Some(text) = env(ROUTE_VERSION) {
            match Wanted::parse(text.trim().as_bytes()) {
                Some(version) => route_version = Some(version),
                None => warnings.push(format!(
                    "{ROUTE_VERSION}: `{text}` is not a version, write it like `v2` or `v2.3`; it is ignored"
                )),
            }
        }
        let mut features = compiled.features;
        if let Some(text) = env(ROUTE_FEATURES) {
            let mut chosen = Features::NONE;
            for name in list(&text) {
                match FeatureSwitch::ALL
                    .into_iter()
                    .find(|feature| feature.name() == name)
                {
                    Some(feature) => chosen = chosen.with(feature),
                    None => warnings.push(format!(
                        "{ROUTE_FEATURES}: `{name}` is not a feature; it is ignored"
                    )),
                }
            }
            features = chosen.and(compiled.features);
        }
        let mut disabled = Vec::new();
        for prefix in list(&env(DISABLE_ROUTES).unwrap_or_default()) {
            if prefix.starts_with('/') {
                let segments = prefix.split('/').filter(|segment| !segment.is_empty());
                disabled.push(segments.map(str::to_owned).collect());
            } else {
                warnings.push(format!(
                    "{DISABLE_ROUTES}: `{prefix}` does not start with `/`; it is ignored"
                ));
            }
        }
        (
            Self {
                route_version,
                features,
                disabled,
            },
            warnings,
        )
    }

    /// Whether a feature runs.
    pub(crate) const fn has(&self, feature: FeatureSwitch) -> bool {
        self.features.has(feature)
    }

    /// The version that replaces every service's default that has it.
    pub(crate) const fn route_version(&self) -> Option<Wanted> {
        self.route_version
    }

    /// Whether a path in segments is below a disabled prefix. Parameters of a segment (`/admin;a=b`) are no
    /// part of its name to many upstreams, and closing more than was meant is the lesser evil.
    pub(crate) fn disables(&self, path: &[&[u8]]) -> bool {
        self.disabled.iter().any(|prefix| {
            prefix.len() <= path.len()
                && prefix.iter().zip(path).all(|(want, have)| {
                    Some(want.as_bytes()) == have.split(|byte| *byte == b';').next()
                })
        })
    }

    /// All of it in one line, for status pages.
    pub fn describe(&self) -> String {
        let version = match self.route_version {
            None => "none".to_owned(),
            Some(Wanted { major, minor: None }) => format!("v{major}"),
            Some(Wanted {
                major,
                minor: Some(minor),
            }) => format!("v{major}.{minor}"),
        };
        let features = FeatureSwitch::ALL
            .into_iter()
            .filter(|feature| self.has(*feature));
        let features = features
            .map(FeatureSwitch::name)
            .collect::<Vec<_>>()
            .join(",");
        let disabled = self
            .disabled
            .iter()
            .map(|prefix| format!("/{}", prefix.join("/")));
        let disabled = disabled.collect::<Vec<_>>().join(",");
        format!("route_version={version} features={features} disabled={disabled}")
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn resolve(built: Option<&'static str>, env: &[(&str, &str)]) -> (String, Vec<String>) {
        let compiled = Compiled {
            route_version: built,
            features: Features::ALL,
        };
        let (switches, warnings) = Switches::resolve(compiled, |key| {
            let found = env.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| (*value).to_owned())
        });
        (switches.describe(), warnings)
    }

    const FEATURES: &str = "features=experiments,rollout,metadata,baggage,verification";

    #[test]
    fn the_environment_overrides_the_build() {
        let built = resolve(Some("v2.1"), &[]);
        assert_eq!(
            built,
            (format!("route_version=v2.1 {FEATURES} disabled="), vec![])
        );
        let (overridden, _) = resolve(
            Some("v2.1"),
            &[
                (ROUTE_VERSION, "v3"),
                (ROUTE_FEATURES, "rollout"),
                (DISABLE_ROUTES, "/admin, /debug/x/"),
            ],
        );
        assert_eq!(
            overridden,
            "route_version=v3 features=rollout disabled=/admin,/debug/x"
        );
    }

    #[test]
    fn nonsense_is_told_and_changes_nothing() {
        let env = [
            (ROUTE_VERSION, "newest"),
            (ROUTE_FEATURES, "rollout,magic"),
            (DISABLE_ROUTES, "admin"),
        ];
        let (switches, warnings) = resolve(Some("v2"), &env);
        assert_eq!(switches, "route_version=v2 features=rollout disabled=");
        assert_eq!(warnings.len(), 3, "{warnings:?}");
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let compiled = Compiled {
            route_version: None,
            features: Features::ALL,
        };
        let env = |key: &str| (key == DISABLE_ROUTES).then(|| "/admin".to_owned());
        let (switches, _) = Switches::resolve(compiled, env);
        let cases: [(&[&[u8]], bool); 7] = [
            (&[b"admin"], true),
            (&[b"admin", b"users"], true),
            (&[b"admin;a=b", b"users"], true),
            (&[b"admin;"], true),
            (&[b";admin"], false),
            (&[b"administrator"], false),
            (&[b"api", b"admin"], false),
        ];
        for (path, disabled) in cases {
            assert_eq!(switches.disables(path), disabled, "{path:?}");
        }
    }
}
