//! RDS: the routes of a listener. The decision has been made; they send each request where it
//! says, and to the listener's default where it says nothing.

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualCluster, VirtualHost,
};
use ombre_policy::duration::Millis;
use ombre_policy::policy::{Cohort, Listener};

use super::proto::{CLUSTER_HEADER, duration, exactly, header};

pub(super) fn message(listener: &Listener, cohorts: &[Cohort]) -> RouteConfiguration {
    let is_decided = HeaderMatcher {
        name: CLUSTER_HEADER.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
        ..HeaderMatcher::default()
    };
    let by_header = ClusterSpecifier::ClusterHeader(CLUSTER_HEADER.to_owned());
    let default = ClusterSpecifier::Cluster(listener.default_cluster.clone());
    let routes = vec![
        route("decided", vec![is_decided], by_header, listener.timeout),
        route("default", Vec::new(), default, listener.timeout),
    ];
    RouteConfiguration {
        name: listener.name.clone(),
        virtual_hosts: vec![VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes,
            virtual_clusters: cohorts.iter().map(virtual_cluster).collect(),
            ..VirtualHost::default()
        }],
        response_headers_to_add: response_headers(),
        ..RouteConfiguration::default()
    }
}

fn route(
    name: &str,
    headers: Vec<HeaderMatcher>,
    to: ClusterSpecifier,
    timeout: Option<Millis>,
) -> Route {
    Route {
        name: name.to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            headers,
            ..RouteMatch::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(to),
            // Absent would be Envoy's own default of 15 s; zero is none.
            timeout: Some(duration(timeout.unwrap_or(Millis::ZERO))),
            ..RouteAction::default()
        })),
        ..Route::default()
    }
}

/// What was decided and why, for whoever looks at the answer; and the cookie for a user who has
/// just been given an identity. Nothing is added when there is nothing to say.
fn response_headers() -> Vec<HeaderValueOption> {
    vec![
        header(
            "x-ombre-decision",
            "%REQ(x-ombre-decision)%",
            HeaderAppendAction::OverwriteIfExistsOrAdd,
        ),
        header(
            "set-cookie",
            "%REQ(x-ombre-set-cookie)%",
            HeaderAppendAction::AppendIfExistsOrAdd,
        ),
    ]
}

/// Requests, errors and latency of a cohort, counted by Envoy itself.
fn virtual_cluster(cohort: &Cohort) -> VirtualCluster {
    VirtualCluster {
        name: cohort.name.clone(),
        headers: vec![HeaderMatcher {
            name: "x-ombre-group".to_owned(),
            header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(exactly(
                &cohort.header,
            ))),
            ..HeaderMatcher::default()
        }],
    }
}
