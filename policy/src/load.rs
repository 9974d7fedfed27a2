//! From files to a validated policy. Everything that can be wrong is found here, at load, and
//! told with file, place and fix; what comes out cannot fail later.

mod clusters;
mod collisions;
pub(crate) mod report;
mod yaml;

use crate::policy::names::Known;
use crate::policy::service::Included;
use crate::policy::{Cluster, Listener, Policy, Service};
use crate::problem::{Problem, Problems};
use crate::raw::{RawExperiment, RawExperimentSource, RawPolicy, RawService, RawVerification};
use report::{Finding, Place, Report};

const API_VERSION: &str = "ombre/v1";
/// Past this many, more problems do not help anybody.
const MAX_PROBLEMS: usize = 50;

/// A file as it was read.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// How problems call it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Reads the files that a policy refers to.
pub trait Files {
    /// The file at `path` as it is written in the policy file `beside`.
    ///
    /// # Errors
    /// What is wrong with the file, for people.
    fn read(&self, beside: &str, path: &str) -> Result<SourceFile, String>;
}

/// A policy that may be put in force.
#[derive(Debug)]
pub struct Loaded {
    /// The policy.
    pub policy: Policy,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
}

/// Loads the policy that these files make together.
///
/// # Errors
/// Every problem that was found, at most 50.
pub fn load(policies: &[SourceFile], files: &dyn Files) -> Result<Loaded, Problems> {
    let mut loader = Loader {
        files,
        read: policies.to_vec(),
        report: Report::default(),
    };
    let mut problems = Vec::new();
    let mut policy = Policy {
        services: Vec::new(),
        clusters: Vec::new(),
        listeners: Vec::new(),
    };
    let mut known = Known::default();
    for file in policies {
        let raw: RawPolicy = match yaml::read(file) {
            Ok(raw) => raw,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let root = Place::whole(&file.name);
        if raw.api_version != API_VERSION {
            let message = format!("`{}` is not known: write `{API_VERSION}`", raw.api_version);
            loader.report.error(&root.key("apiVersion"), message);
        }
        if raw.services.is_none() && raw.clusters.is_empty() && raw.listeners.is_empty() {
            let message = "is missing: say what is released";
            loader.report.error(&root.key("services"), message);
        }
        for (index, raw) in raw.services.iter().flatten().enumerate() {
            let place = root.key("services").item(index);
            let included = loader.included(&place, raw, &mut problems);
            let report = &mut loader.report;
            let service = Service::validate(report, &place, raw, &included, &mut known);
            policy.services.extend(service);
        }
        for (index, raw) in raw.clusters.iter().enumerate() {
            let (report, place) = (&mut loader.report, root.key("clusters").item(index));
            let cluster = Cluster::validate(report, &place, raw, &mut known.clusters);
            policy.clusters.extend(cluster);
        }
        for (index, raw) in raw.listeners.iter().enumerate() {
            let (report, place) = (&mut loader.report, root.key("listeners").item(index));
            let listener = Listener::validate(report, &place, raw, &mut known.listeners);
            policy.listeners.extend(listener);
        }
    }
    collisions::check(&mut loader.report, &policy.services);
    clusters::check(&mut loader.report, &policy, &known.clusters);
    problems.extend(loader.located(&loader.report.errors));
    problems.truncate(MAX_PROBLEMS);
    Problems::none_of(problems)?;
    let warnings = loader.located(&loader.report.warnings);
    Ok(Loaded { policy, warnings })
}

/// Loads the policy of one text, which problems call `policy.yaml`, and which may refer to no file.
///
/// # Errors
/// Every problem that was found, at most 50.
pub fn load_text(text: &str) -> Result<Loaded, Problems> {
    let file = SourceFile {
        name: "policy.yaml".to_owned(),
        text: text.to_owned(),
    };
    load(&[file], &NoFiles)
}

/// For a policy that stands alone.
struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &str, path: &str) -> Result<SourceFile, String> {
        Err(format!(
            "`{path}` cannot be read: there are no files beside this text"
        ))
    }
}

struct Loader<'f> {
    files: &'f dyn Files,
    read: Vec<SourceFile>,
    report: Report,
}

impl Loader<'_> {
    /// Reads the experiments and the token of a service.
    fn included(
        &mut self,
        place: &Place,
        raw: &RawService,
        problems: &mut Vec<Problem>,
    ) -> Included {
        let one = raw
            .experiment
            .iter()
            .map(|source| (place.key("experiment"), source));
        let list = place.key("experiments");
        let many = raw.experiments.iter().enumerate();
        let many = many.map(|(index, source)| (list.item(index), source));
        let mut experiments = Vec::new();
        for (place, source) in one.chain(many) {
            match source {
                RawExperimentSource::Inline(inline) => {
                    experiments.push((place, (**inline).clone()))
                }
                RawExperimentSource::File(path) => {
                    let Some(file) = self.file(&place, path) else {
                        continue;
                    };
                    match yaml::read::<RawExperiment>(&file) {
                        Ok(raw) => experiments.push((Place::whole(&file.name), raw)),
                        Err(problem) => problems.push(problem),
                    }
                }
            }
        }
        let token_file = match &raw.verification {
            RawVerification::Token(token) => token.token_file.as_deref(),
            RawVerification::Off | RawVerification::Open => None,
        };
        let token_place = place.key("verification").key("token_file");
        let token = token_file.and_then(|path| self.file(&token_place, path));
        // Editors and `echo` end files with a line break that is not part of the token.
        let token = token.map(|file| file.text.trim_end().to_owned());
        Included { experiments, token }
    }

    fn file(&mut self, place: &Place, path: &str) -> Option<SourceFile> {
        let file = self
            .report
            .take(place, self.files.read(place.file(), path))?;
        self.read.push(file.clone());
        Some(file)
    }

    /// Findings with line and column.
    fn located(&self, findings: &[Finding]) -> Vec<Problem> {
        let mut locators: Vec<(&str, Option<yaml::Locator>)> = Vec::new();
        let located = findings
            .iter()
            .take(MAX_PROBLEMS)
            .map(|Finding { place, message }| {
                let known = locators.iter().position(|(name, _)| *name == place.file());
                let at = known.unwrap_or_else(|| {
                    let file = self.read.iter().find(|file| file.name == place.file());
                    locators.push((place.file(), file.and_then(yaml::Locator::new)));
                    locators.len().saturating_sub(1)
                });
                let locator = locators.get(at).and_then(|(_, locator)| locator.as_ref());
                let (line, column) = locator.map(|locator| locator.locate(place.path())).unzip();
                Problem {
                    file: place.file().to_owned(),
                    line,
                    column,
                    path: place.path().to_owned(),
                    message: message.clone(),
                }
            });
        located.collect()
    }
}
