//! What `x-ombre-group` can say, so that Envoy can count each of its values for itself.

use std::collections::BTreeMap;

use super::{Policy, Service};

/// A service with more combinations than this is not counted by cohort: Envoy compares a request
/// with one after the other, and keeps statistics of each.
const MAX_COMBINATIONS: usize = 64;

/// Requests that are in these groups and in no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cohort {
    /// For statistics: `checkout-flow-v2_treatment`, several joined by `+`.
    pub name: String,
    /// What `x-ombre-group` holds then.
    pub header: String,
}

impl Policy {
    /// The cohorts of every service: each combination of one group or none of each layer, in
    /// the order of the names. Services with too many are left out.
    pub fn cohorts(&self) -> Vec<Cohort> {
        let cohorts = self.services.iter().flat_map(combinations);
        // Services may share names of experiments, and then share a cohort.
        let by_name: BTreeMap<String, String> =
            cohorts.map(|cohort| (cohort.name, cohort.header)).collect();
        let cohorts = by_name.into_iter();
        cohorts
            .map(|(name, header)| Cohort { name, header })
            .collect()
    }
}

fn combinations(service: &Service) -> Vec<Cohort> {
    let nothing = Cohort {
        name: String::new(),
        header: String::new(),
    };
    let mut all = vec![nothing];
    for layer in &service.layers {
        let mut longer = Vec::new();
        for experiment in &layer.experiments {
            for group in &experiment.groups {
                let (experiment, group) = (&experiment.name, &group.name);
                longer.extend(all.iter().map(|cohort| cohort.and(experiment, group)));
                if all.len() + longer.len() > MAX_COMBINATIONS + 1 {
                    return Vec::new();
                }
            }
        }
        all.extend(longer);
    }
    all.retain(|cohort| !cohort.header.is_empty());
    all
}

impl Cohort {
    /// As the filter writes the header: in the order of the layers, with commas.
    fn and(&self, experiment: &str, group: &str) -> Self {
        if self.header.is_empty() {
            return Self {
                name: format!("{experiment}_{group}"),
                header: format!("{experiment}={group}"),
            };
        }
        let Self { name, header } = self;
        Self {
            name: format!("{name}+{experiment}_{group}"),
            header: format!("{header},{experiment}={group}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use crate::load::load_text;

    fn cohorts(experiments: &[(&str, &str, &str, &str)]) -> Vec<(String, String)> {
        let mut text = "apiVersion: ombre/v1\nservices:\n  - name: shop\n    routes: [{ name: shop, path: /shop }]\n    versions: [{ name: v1, cluster: v1 }]\n    default: v1\n    unit: [mint]\n    experiments:\n".to_owned();
        for (name, layer, share, groups) in experiments {
            text += &format!(
                "      - {{ experiment: {name}, layer: {layer}, share: {share}, groups: [{groups}] }}\n"
            );
        }
        let policy = load_text(&text).unwrap().policy;
        let cohorts = policy.cohorts().into_iter();
        cohorts.map(|cohort| (cohort.name, cohort.header)).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, header)| ((*name).to_owned(), (*header).to_owned()))
            .collect()
    }

    const AB: &str = "{ name: a, weight: 50 }, { name: b, weight: 50 }";

    #[test]
    fn groups_of_one_layer_exclude_each_other() {
        let found = cohorts(&[("one", "page", "50", AB), ("two", "page", "50", AB)]);
        let expected = pairs(&[
            ("one_a", "one=a"),
            ("one_b", "one=b"),
            ("two_a", "two=a"),
            ("two_b", "two=b"),
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn groups_of_two_layers_combine() {
        let only = "{ name: c, weight: 100 }";
        let found = cohorts(&[("one", "first", "100", AB), ("two", "second", "50", only)]);
        let expected = pairs(&[
            ("one_a", "one=a"),
            ("one_a+two_c", "one=a,two=c"),
            ("one_b", "one=b"),
            ("one_b+two_c", "one=b,two=c"),
            ("two_c", "two=c"),
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn too_many_combinations_are_left_out_and_64_are_not() {
        let layer = |name| (name, name, "100", "{ name: a, weight: 100 }");
        let six: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(layer).into();
        assert_eq!(cohorts(&six).len(), 63);
        let seven: Vec<_> = six.into_iter().chain([layer("g")]).collect();
        assert_eq!(cohorts(&seven), []);
        let groups: Vec<_> = (0..64)
            .map(|group| {
                format!(
                    "{{ name: g{group}, weight: {} }}",
                    if group < 36 { 2 } else { 1 }
                )
            })
            .collect();
        assert_eq!(cohorts(&[("x", "x", "100", &groups.join(", "))]).len(), 64);
    }
}
