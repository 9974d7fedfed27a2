use super::*;
use std::sync::Mutex;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use ombre_policy::duration::Moment;
use ombre_policy::release::machine::Release;
use ombre_policy::release::share::Percent;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::clients::secure::Secure;
use crate::store::{Change, Record};

type Taken = Arc<Mutex<Vec<Value>>>;

async fn take(State(taken): State<Taken>, Json(change): Json<Value>) {
    taken.lock().unwrap().push(change["payload"].clone());
}

#[tokio::test]
async fn a_log_is_applied_by_https() {
    let taken = Taken::default();
    let app = Router::new().route("/apply", post(take));
    let server = Secure::start(app.with_state(Arc::clone(&taken)), "localhost").await;
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    let record = Record {
        service: "shop".to_owned(),
        candidate: "v2".to_owned(),
        stable: "v1".to_owned(),
        weight: 10.0,
        awaited: Vec::new(),
        release: Release::begin(Percent::FULL, Percent::FULL, Moment::default()),
    };
    store.save(&record, &[]).unwrap();
    let change = |number: u64| Change {
        src_ver: "v2".to_owned(),
        dst_ver: "v1".to_owned(),
        pk: number.to_string(),
        payload: json!(number),
        ts: number,
    };
    let batch = [change(1), change(2)];
    store
        .log("shop", &batch, Moment::from_unix_millis(1))
        .unwrap();
    let client = client(&Clients::new(Some(&server.ca_file)).unwrap()).unwrap();
    let (outbox, mut inbox) = mpsc::channel(1);
    let mut end = async |path: &str| {
        let work = (client.clone(), Arc::clone(&store), outbox.clone());
        let url = format!("{}/{path}", server.url);
        let drain = Drain::start("shop", Turn::default(), 2, url, work);
        let told = timeout(Duration::from_secs(20), inbox.recv()).await;
        let Some(Message::Drain(applied)) = told.expect("an end") else {
            panic!("another message");
        };
        drain.stop().await;
        applied.result
    };
    let refused = end("nothing?token=secret").await.unwrap_err();
    assert!(refused.contains("404"), "{refused}");
    assert!(!refused.contains("secret"), "{refused}");
    assert_eq!(end("apply").await, Ok(2));
    let mut taken = taken.lock().unwrap().clone();
    // Several are under way at once, each of another key.
    taken.sort_by_key(|number| number.as_u64());
    assert_eq!(taken, [json!(1), json!(2)]);
}
