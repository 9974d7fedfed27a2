use super::*;
use proptest::prelude::*;

use crate::evidence::ClusterTotals;

const NOW: Moment = Moment::from_unix_millis(1);

/// As Envoy 1.40 wrote it, shortened.
const ANSWER: &str = r#"{"stats":[
{"name":"cluster.a.b.upstream_rq_5xx","value":4},
{"name":"cluster.a.b.upstream_rq_completed","value":9},
{"name":"cluster.idle.upstream_rq_completed","value":0},
{"name":"server.uptime","value":37},
{"histograms":{"supported_percentiles":[0,25],"details":[{"name":"cluster.a.b.upstream_rq_time",
"totals":[{"lower_bound":0,"width":0,"count":5},{"lower_bound":3,"width":0.1,"count":1},{"lower_bound":900,"width":10,"count":1}],
"intervals":[],"percentiles":[{"cumulative":0,"interval":null}]}]}}]}"#;

#[test]
fn an_answer_of_envoy_is_read() {
    let reading = parse(ANSWER.as_bytes(), NOW).unwrap();
    let busy = &reading.clusters["a.b"];
    assert_eq!((busy.requests, busy.errors), (9, 4));
    assert_eq!(
        (busy.latency.total(), busy.latency.at_or_above(800_000)),
        (7, 1)
    );
    assert_eq!(reading.uptime, Some(37));
    assert_eq!(reading.clusters["idle"], ClusterTotals::default());
    assert!(!reading.clusters.contains_key("absent"));
}

#[test]
fn failed_calls_of_grpc_are_errors() {
    for (case, requests, errors, calls, expected) in [
        ("none", 40, 3, &[][..], 3),
        ("a server's", 40, 0, &[("14", 20), ("2", 3)], 23),
        ("answered by Envoy too", 40, 20, &[("14", 20)], 20),
        ("a client's", 40, 0, &[("3", 7), ("0", 30), ("5", 3)], 0),
        ("before a request was made", 10, 0, &[("14", 20)], 10),
    ] {
        let calls = calls.iter().map(|(status, count)| {
            format!(r#"{{"name":"cluster.a.b.grpc.{status}","value":{count}}},"#)
        });
        let calls: String = calls.collect();
        let text = format!(
            r#"{{"stats":[{calls}{{"name":"cluster.a.b.upstream_rq_5xx","value":{errors}}},{{"name":"cluster.a.b.upstream_rq_completed","value":{requests}}}]}}"#
        );
        let reading = parse(text.as_bytes(), NOW).unwrap();
        assert_eq!(reading.clusters["a.b"].errors, expected, "{case}");
        assert_eq!(reading.clusters["a.b"].requests, requests, "{case}");
    }
    let named_so = r#"{"stats":[{"name":"cluster.a.grpc.upstream_rq_completed","value":9}]}"#;
    let reading = parse(named_so.as_bytes(), NOW).unwrap();
    assert_eq!(reading.clusters["a.grpc"].requests, 9);
}

#[test]
fn what_is_no_count_is_refused() {
    for (name, from, to) in [
        ("negative", "\"value\":4", "\"value\":-4"),
        ("fraction", "\"value\":4", "\"value\":4.5"),
        ("text", "\"value\":4", "\"value\":\"4\""),
        ("null", "\"value\":4", "\"value\":null"),
        ("more errors than requests", "\"value\":4", "\"value\":10"),
        (
            "negative latency",
            "\"lower_bound\":900",
            "\"lower_bound\":-1",
        ),
        (
            "endless latency",
            "\"lower_bound\":900",
            "\"lower_bound\":1e300",
        ),
        ("cut", "}]}}]}", "}]}}"),
        ("another answer", "\"stats\"", "\"status\""),
    ] {
        let text = ANSWER.replacen(from, to, 1);
        assert_ne!(text, ANSWER, "{name}");
        assert!(parse(text.as_bytes(), NOW).is_err(), "{name}");
    }
}

#[test]
fn the_filter_means_exactly_these_clusters() {
    let clusters = ["a.b".to_owned(), "c:80".to_owned()];
    assert_eq!(
        filter(&clusters),
        r"^(cluster\.(a\.b|c_80)\.(upstream_rq_completed|upstream_rq_5xx|upstream_rq_time|grpc\.(2|4|12|13|14|15))|server\.uptime)$"
    );
    let many: Vec<String> = (0..2000).map(|n| format!("cluster-{n}")).collect();
    assert!(filter(&many).len() < 200);
}

proptest! {
    #[test]
    fn any_answer_is_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&body, NOW);
    }

    #[test]
    fn any_numbers_are_survived(value in any::<f64>(), lower in any::<f64>(), count in any::<u64>()) {
        let text = format!(
            r#"{{"stats":[{{"name":"cluster.a.upstream_rq_completed","value":{value}}},{{"histograms":{{"details":[{{"name":"cluster.a.upstream_rq_time","totals":[{{"lower_bound":{lower},"width":{lower},"count":{count}}}]}}]}}}}]}}"#
        );
        let _ = parse(text.as_bytes(), NOW);
    }
}
