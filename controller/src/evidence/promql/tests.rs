use super::*;
use crate::clock::hand::Hand;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use answer::{Samples, parse};
use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::routing::post;
use ombre_policy::release::evidence::Bin;
use proptest::prelude::*;
use reqwest::StatusCode;
use tokio::net::TcpListener;

use crate::evidence::{ClusterTotals, Collector, Reading};

/// Two Envoys, scraped every five seconds, as Prometheus 2.42 writes them, shortened. The second one
/// has answered nothing yet.
const ANSWER: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[
{"metric":{"__name__":"envoy_cluster_upstream_rq_completed","envoy_cluster_name":"c_80","instance":"a:9901","job":"edge"},"values":[[90.281,"7"],[95.281,"9"]]},
{"metric":{"__name__":"envoy_cluster_upstream_rq_completed","envoy_cluster_name":"gone","instance":"a:9901","job":"edge"},"values":[[90.281,"7"]]},
{"metric":{"__name__":"envoy_cluster_upstream_rq_completed","envoy_cluster_name":"c_80","instance":"b:9901","job":"edge"},"values":[[93.004,"0"]]},
{"metric":{"__name__":"envoy_cluster_upstream_rq_xx","envoy_cluster_name":"c_80","envoy_response_code_class":"2","instance":"a:9901","job":"edge"},"values":[[90.281,"5"],[95.281,"5"]]},
{"metric":{"__name__":"envoy_cluster_upstream_rq_xx","envoy_cluster_name":"c_80","envoy_response_code_class":"5","instance":"a:9901","job":"edge"},"values":[[95.281,"4"]]},
{"metric":{"__name__":"envoy_cluster_upstream_rq_time_bucket","envoy_cluster_name":"c_80","instance":"a:9901","job":"edge","le":"0.5"},"values":[[90.281,"1"],[95.281,"2"]]},
{"metric":{"__name__":"envoy_cluster_upstream_rq_time_bucket","envoy_cluster_name":"c_80","instance":"a:9901","job":"edge","le":"800"},"values":[[90.281,"3"],[95.281,"6"]]},
{"metric":{"__name__":"envoy_cluster_upstream_rq_time_bucket","envoy_cluster_name":"c_80","instance":"a:9901","job":"edge","le":"1000"},"values":[[90.281,"3"],[95.281,"7"]]},
{"metric":{"__name__":"envoy_cluster_upstream_rq_time_bucket","envoy_cluster_name":"c_80","instance":"a:9901","job":"edge","le":"+Inf"},"values":[[90.281,"5"],[95.281,"9"]]},
{"metric":{"__name__":"envoy_server_uptime","instance":"a:9901","job":"edge"},"values":[[90.281,"60"],[95.281,"65"]]},
{"metric":{"__name__":"envoy_server_uptime","instance":"c:9901","job":"edge"},"values":[[94.5,"7"]]}
]}}"#;

const NOW: Moment = Moment::from_unix_millis(96_000);

fn read(text: &str) -> Result<Samples, AnswerError> {
    parse(text.as_bytes(), StatusCode::OK, NOW)
}

fn edited(from: &str, to: &str) -> String {
    let text = ANSWER.replace(from, to);
    assert_ne!(text, ANSWER, "{from}");
    text
}

/// The Envoy that answered something.
fn first(samples: &Samples) -> Option<&Reading> {
    samples.proxies[0].1.as_ref()
}

#[test]
fn an_answer_is_read_by_envoy_and_cluster() {
    let samples = read(ANSWER).unwrap();
    let names: Vec<&str> = samples
        .proxies
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let labels = [
        r#"instance="a:9901",job="edge""#,
        r#"instance="b:9901",job="edge""#,
        r#"instance="c:9901",job="edge""#,
    ];
    assert_eq!(names, labels);
    assert_eq!(samples.complaint, None);
    assert_eq!(samples.apart, Some(Millis::from_secs(5)));
    let a = first(&samples).unwrap();
    assert_eq!(a.at, Moment::from_unix_millis(95_281));
    assert_eq!(a.age, Millis::new(719));
    assert_eq!(a.uptime, Some(65));
    // A cluster that the newest scrape does not have is not there.
    assert_eq!(a.clusters.keys().collect::<Vec<_>>(), ["c_80"]);
    let bin = |lower, width| Bin { lower, width };
    let latency = [
        (bin(0, 500), 2),
        (bin(500, 799_500), 4),
        (bin(800_000, 200_000), 1),
        (bin(1_000_000, 0), 2),
    ];
    let totals = ClusterTotals {
        requests: 9,
        errors: 4,
        latency: latency.into_iter().collect(),
    };
    assert_eq!(a.clusters["c_80"], totals);
    assert_eq!(totals.latency.at_or_above(800_000), 3);
    let b = samples.proxies[1].1.as_ref().unwrap();
    assert_eq!(b.clusters["c_80"], ClusterTotals::default());
    assert_eq!(b.uptime, None);
    let c = samples.proxies[2].1.as_ref().unwrap();
    assert!(c.clusters.is_empty(), "it has none of them, and answers");
}

#[test]
fn an_error_written_before_its_request_is_one_of_the_next_scrape() {
    let text = edited(r#"[[95.281,"4"]]"#, r#"[[95.281,"12"]]"#);
    let samples = read(&text).unwrap();
    assert_eq!(first(&samples).unwrap().clusters["c_80"].errors, 9);
}

#[test]
fn what_is_no_count_or_missing_makes_one_envoy_unknown_with_the_reason() {
    let classes = (CLASSES_NAME, "something_else");
    let buckets = (BUCKETS_NAME, "something_else");
    for (name, (from, to), reason) in [
        (
            "not a number",
            (r#"[95.281,"9"]"#, r#"[95.281,"NaN"]"#),
            "not a count",
        ),
        (
            "endless",
            (r#"[95.281,"4"]"#, r#"[95.281,"+Inf"]"#),
            "not a count",
        ),
        (
            "negative",
            (r#"[95.281,"4"]"#, r#"[95.281,"-4"]"#),
            "not a count",
        ),
        (
            "half",
            (r#"[95.281,"4"]"#, r#"[95.281,"4.5"]"#),
            "not a count",
        ),
        (
            "text",
            (r#"[95.281,"6"]"#, r#"[95.281,"six"]"#),
            "not a count",
        ),
        (
            "too large",
            (r#"[95.281,"4"]"#, r#"[95.281,"1e300"]"#),
            "not a count",
        ),
        ("no classes", classes, "rq_xx` is missing"),
        ("no latencies", buckets, "rq_time_bucket` is missing"),
        ("no last edge", ("+Inf", "2500"), "do not rise"),
        (
            "falling",
            (r#"[95.281,"7"]"#, r#"[95.281,"5"]"#),
            "do not rise",
        ),
        (
            "an edge that is none",
            (r#""le":"0.5""#, r#""le":"x""#),
            "do not rise",
        ),
        (
            "no requests",
            (
                REQUESTS_OF_A,
                r#""up","envoy_cluster_name":"c_80","instance":"a"#,
            ),
            "rq_completed` is missing",
        ),
        (
            "another clock",
            ("95.281", "995.281"),
            "ahead of this clock",
        ),
    ] {
        // The cluster that is gone would be enough for an Envoy to have been scraped.
        let text = edited(from, to).replace(r#"[[90.281,"7"]]"#, "[]");
        let samples = read(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(first(&samples), None, "{name}");
        let complaint = samples.complaint.unwrap_or_default();
        assert!(complaint.contains(reason), "{name}: {complaint}");
        assert!(complaint.contains("a:9901"), "{name}: {complaint}");
        let other = samples.proxies.last().unwrap();
        assert!(other.1.is_some(), "{name}: the other is none the worse");
    }
}

const CLASSES_NAME: &str = "envoy_cluster_upstream_rq_xx";
const BUCKETS_NAME: &str = "envoy_cluster_upstream_rq_time_bucket";
const REQUESTS_OF_A: &str =
    r#""envoy_cluster_upstream_rq_completed","envoy_cluster_name":"c_80","instance":"a"#;

#[test]
fn an_answer_that_is_none_is_refused_whole() {
    let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected"}"#;
    let warned = edited("\"data\"", "\"warnings\":[\"a replica is down\"],\"data\"");
    let none = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    let uptime = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"envoy_server_uptime","instance":"a"},"values":[[95.281,"5"]]}]}}"#;
    for (name, status, text, reason) in [
        ("error", 400, refused, "400 Bad Request: parse error"),
        ("error with 200", 200, refused, "parse error"),
        ("answer with 503", 503, ANSWER, "503"),
        ("warning", 200, &warned, "a replica is down"),
        ("vector", 200, &edited("matrix", "vector"), "`vector`"),
        ("empty", 200, none, "no sample"),
        ("none of the clusters", 200, uptime, "no sample"),
        ("web page", 502, "<html>", "502 Bad Gateway, and not as"),
        ("cut", 200, ANSWER.split_at(900).0, "not as a query API"),
        (
            "other values",
            200,
            &edited("[[93.004,\"0\"]]", "[[93.004,0]]"),
            "not as a query API",
        ),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let error = parse(text.as_bytes(), status, NOW).unwrap_err().to_string();
        assert!(error.contains(reason), "{name}: {error}");
    }
}

#[test]
fn the_query_asks_for_exactly_these_clusters() {
    let clusters = ["a.b".to_owned(), "c:80".to_owned(), r#"d"e\f"#.to_owned()];
    let names = "envoy_cluster_upstream_rq_completed|envoy_cluster_upstream_rq_xx|envoy_cluster_upstream_rq_time_bucket|envoy_server_uptime";
    assert_eq!(
        query(&clusters, "", Millis::from_secs(15)),
        format!(r#"{{__name__=~"{names}",envoy_cluster_name=~"|a\\.b|c_80|d\"e\\\\f"}}[15000ms]"#)
    );
    assert_eq!(
        query(&clusters[1..2], "job=\"edge\"", Millis::new(1500)),
        format!(r#"{{__name__=~"{names}",envoy_cluster_name=~"|c_80",job="edge"}}[1500ms]"#)
    );
}

#[test]
fn scrapes_that_are_too_seldom_are_told() {
    let samples = read(ANSWER).unwrap();
    for (interval, expected) in [(10_000, false), (5000, false), (4000, true), (1000, true)] {
        let told = too_seldom(&samples, Millis::new(interval));
        assert_eq!(told.is_some(), expected, "{interval}");
    }
    let told = too_seldom(&samples, Millis::from_secs(1)).unwrap();
    assert!(
        told.contains("every 5s") && told.contains("set it to 10s"),
        "{told}"
    );
}

type Asked = Arc<Mutex<Vec<(String, String)>>>;

async fn store(answer: &'static str) -> (Url, Asked) {
    let asked = Asked::default();
    let app = Router::new().route(
        "/prefix/api/v1/query",
        post(
            async move |State(asked): State<Asked>, uri: Uri, body: String| {
                asked.lock().unwrap().push((uri.to_string(), body));
                answer
            },
        ),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app.with_state(Arc::clone(&asked));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let url = format!("http://ann:secret@{address}/prefix/?tenant=a");
    (url.parse().unwrap(), asked)
}

#[tokio::test]
async fn a_store_is_asked_by_its_api_and_its_envoys_get_numbers_of_their_own() {
    let (url, asked) = store(ANSWER).await;
    let clients = Clients::new(None).unwrap();
    let mut collector = Collector::of_store(&clients, url, "").unwrap();
    let wanted = Wanted {
        clusters: Arc::new(vec!["c:80".to_owned()]),
        interval: Millis::from_secs(10),
        stale: Millis::from_secs(15),
    };
    let patience = Duration::from_secs(20);
    // Samples are as old as the machine's clock says, whatever it showed when the run began.
    let clock = Hand::at(Moment::from_unix_millis(7)).start();
    clock.set(NOW);
    let first = collector.collect(&wanted, &clock, patience).await;
    let second = collector.collect(&wanted, &clock, patience).await;
    assert_eq!(first.len(), 3);
    assert!(first.values().all(Option::is_some));
    assert_eq!(first, second);
    let status = collector.status().remove(0);
    assert_eq!((status.proxies, status.answered), (3, Some(clock.now())));
    assert_eq!(status.error, None);
    assert!(
        !status.url.contains("ann") && !status.url.contains("secret"),
        "{}",
        status.url
    );
    let (path, body) = asked.lock().unwrap().remove(0);
    assert_eq!(path, "/prefix/api/v1/query?tenant=a");
    let form: BTreeMap<String, String> = Url::parse(&format!("http://h/?{body}"))
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect();
    assert_eq!(form.len(), 1);
    assert_eq!(form["query"], query(&wanted.clusters, "", wanted.stale));
}

#[tokio::test]
async fn a_store_that_refuses_leaves_everything_unknown_and_says_why() {
    let answer = r#"{"status":"error","error":"out of memory"}"#;
    let (url, _) = store(answer).await;
    let clients = Clients::new(None).unwrap();
    let mut collector = Collector::of_store(&clients, url, "").unwrap();
    let wanted = Wanted {
        clusters: Arc::default(),
        interval: Millis::from_secs(1),
        stale: Millis::from_secs(15),
    };
    let clock = Hand::at(NOW).start();
    let readings = collector
        .collect(&wanted, &clock, Duration::from_secs(20))
        .await;
    assert!(readings.is_empty());
    let status = collector.status().remove(0);
    assert!(status.error.unwrap().contains("out of memory"));
    assert_eq!(status.answered, None);
}

proptest! {
    #[test]
    fn any_answer_is_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&body, StatusCode::OK, NOW);
    }

    #[test]
    fn any_numbers_are_survived(
        time in any::<f64>().prop_filter("JSON has no others", |it| it.is_finite()),
        value in any::<f64>(),
        edge in any::<f64>(),
    ) {
        let text = edited("95.281", &format!("{time:e}"))
            .replace("\"6\"", &format!("\"{value}\""))
            .replace("\"800\"", &format!("\"{edge}\""));
        let samples = read(&text).unwrap();
        for (_, reading) in samples.proxies {
            for totals in reading.into_iter().flat_map(|reading| reading.clusters.into_values()) {
                prop_assert!(totals.errors <= totals.requests);
            }
        }
    }
}
