use super::*;
use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::app::tests::{Fixture, SOON, read_json, refuse};

const OPERATIONS: &[&str] = &[
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/clusters",
    "GET /v1/decisions",
    "GET /v1/delivery/{kind}",
    "GET /v1/events",
    "GET /v1/history",
    "GET /v1/nodes",
    "GET /v1/openapi.json",
    "GET /v1/policy",
    "GET /v1/services",
    "GET /v1/services/{service}",
    "GET /v1/services/{service}/sync-log",
    "GET /v1/status",
    "POST /v1/explain",
    "POST /v1/services/{service}/orders",
    "POST /v1/services/{service}/sync-log",
    "PUT /v1/decisions",
];

async fn document(fixture: &Fixture) -> Value {
    let response = fixture.get("/v1/openapi.json").await;
    assert_eq!(response.status(), StatusCode::OK);
    read_json(response).await
}

/// Each operation with its method and path.
fn operations(document: &Value) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.insert(format!("{} {path}", method.to_uppercase()), operation);
        }
    }
    found
}

#[tokio::test]
async fn the_document_is_one_and_whole() {
    let document = document(&Fixture::with_policy()).await;
    let read: Result<OpenApi, _> = serde_json::from_value(document.clone());
    assert!(read.is_ok(), "{:?}", read.err());
    let operations = operations(&document);
    assert_eq!(operations.keys().collect::<Vec<_>>(), OPERATIONS);
    let mut ids = BTreeSet::new();
    for (name, operation) in &operations {
        assert!(
            ids.insert(operation["operationId"].as_str()),
            "{name}: two of one name"
        );
        let wanted = name.matches('{').count();
        let parameters = operation["parameters"].as_array();
        let in_path = parameters
            .into_iter()
            .flatten()
            .filter(|it| it["in"] == "path");
        assert_eq!(in_path.count(), wanted, "{name}");
        assert!(operation["responses"]["200"].is_object(), "{name}");
    }
    resolve_all(&document, &document);
}

/// Every reference leads somewhere.
fn resolve_all(document: &Value, part: &Value) {
    match part {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref") {
                resolve(document, reference);
            }
            map.values().for_each(|part| resolve_all(document, part));
        }
        Value::Array(parts) => parts.iter().for_each(|part| resolve_all(document, part)),
        _ => {}
    }
}

fn resolve<'a>(document: &'a Value, reference: &Value) -> &'a Value {
    let path = reference.as_str().unwrap().strip_prefix('#').unwrap();
    let found = document.pointer(path);
    found.unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

/// Whether `value` is what `schema` says: no key that it does not name, none missing that it requires.
fn fits(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(reference) = schema.get("$ref") {
        return fits(document, resolve(document, reference), value, place);
    }
    if let Some(variants) = schema.get("oneOf").and_then(Value::as_array) {
        let tried = variants
            .iter()
            .map(|variant| fits(document, variant, value, place));
        let failed: Result<Vec<String>, ()> = tried.map(|it| it.err().ok_or(())).collect();
        return failed.map_or(Ok(()), |reasons| Err(reasons.join(" and ")));
    }
    if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
        let (mut properties, mut required) = (serde_json::Map::new(), Vec::new());
        for part in parts {
            let part = part.get("$ref").map_or(part, |it| resolve(document, it));
            properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
            required.extend(part["required"].as_array().cloned().unwrap_or_default());
        }
        let whole = json!({ "type": "object", "properties": properties, "required": required });
        return fits(document, &whole, value, place);
    }
    if schema
        .get("enum")
        .is_some_and(|all| !all.as_array().unwrap().contains(value))
    {
        return Err(format!("{place}: {value} is none of {}", schema["enum"]));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.clone(),
        Some(kind) => vec![kind.clone()],
        None => return Ok(()),
    };
    if !kinds
        .iter()
        .any(|it| it == kind || (it == "number" && kind == "integer"))
    {
        return Err(format!("{place}: a {kind} where {kinds:?} is due"));
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        fits(
            document,
            &schema["items"],
            item,
            &format!("{place}[{number}]"),
        )?;
    }
    let Some(object) = value.as_object() else {
        return Ok(());
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !object.contains_key(name.as_str().unwrap()) {
            return Err(format!("{place}: {name} is missing"));
        }
    }
    for (name, value) in object {
        let place = format!("{place}.{name}");
        let property = schema["properties"].get(name);
        match property.or_else(|| schema.get("additionalProperties")) {
            Some(schema) => fits(document, schema, value, &place)?,
            None if schema.get("properties").is_none() => {}
            None => return Err(format!("{place} is not in the document")),
        }
    }
    Ok(())
}

async fn check(document: &Value, operation: &str, response: Response<Body>) {
    let status = response.status().as_u16().to_string();
    let kind = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let operations = operations(document);
    let promised = &operations[operation]["responses"][&status];
    assert!(
        promised.is_object(),
        "{operation} answers {status}, which it does not say"
    );
    let schema = &promised["content"][&kind]["schema"];
    assert!(
        schema.is_object(),
        "{operation} answers {status} with {kind}"
    );
    let answer = read_json(response).await;
    if let Err(error) = fits(document, schema, &answer, operation) {
        panic!("{error} in {answer:#}");
    }
}

#[tokio::test]
async fn answers_are_what_the_document_says() {
    let fixture = Fixture::releasing().await;
    let document = document(&fixture).await;
    let request = |method: &str, path: &str, body: Value| {
        let request = axum::http::Request::builder().method(method).uri(path);
        request.body(Body::from(body.to_string())).unwrap()
    };
    let decisions = json!({ "services": { "shop": {
        "weight": 5.0, "degraded": { "v2": "v1" }, "frozen": { "v2": { "retry_after": 9 } }, "disabled_routes": ["shop"]
    } } });
    let change = json!([{ "src_ver": "v2", "dst_ver": "v1", "pk": "a", "payload": {}, "ts": 1 }]);
    let order = |command: Value| json!({ "command": command, "actor": "ann", "reason": "because" });
    let poll = axum::http::Request::get("/v1/delivery/policy").header("x-ombre-node", "envoy-1");
    fixture.call(poll.body(Body::empty()).unwrap()).await;
    let none = || Value::Null;
    for (operation, path, body) in [
        ("POST /v1/explain", "/v1/explain", json!({ "url": "/shop" })),
        ("PUT /v1/decisions", "/v1/decisions", decisions),
        (
            "PUT /v1/decisions",
            "/v1/decisions",
            json!({ "services": { "no": {} } }),
        ),
        ("GET /v1/decisions", "/v1/decisions", none()),
        ("GET /v1/policy", "/v1/policy", none()),
        ("GET /v1/status", "/v1/status", none()),
        ("GET /v1/nodes", "/v1/nodes", none()),
        (
            "POST /v1/explain",
            "/v1/explain",
            json!({ "url": "/shop", "method": "POST", "headers": [["a", "b"]] }),
        ),
        ("POST /v1/explain", "/v1/explain", json!({ "url": "/none" })),
        ("POST /v1/explain", "/v1/explain", json!({})),
        (
            "POST /v1/services/{service}/orders",
            "/v1/services/shop/orders",
            order(json!("promote")),
        ),
        (
            "POST /v1/services/{service}/orders",
            "/v1/services/shop/orders",
            order(json!({ "set_weight": 30 })),
        ),
        (
            "POST /v1/services/{service}/orders",
            "/v1/services/shop/orders",
            order(json!({ "rollback": { "force": false } })),
        ),
        (
            "POST /v1/services/{service}/orders",
            "/v1/services/shop/orders",
            order(json!({ "rollback": { "force": false } })),
        ),
        (
            "POST /v1/services/{service}/orders",
            "/v1/services/none/orders",
            order(json!("pause")),
        ),
        (
            "POST /v1/services/{service}/sync-log",
            "/v1/services/shop/sync-log",
            change,
        ),
        (
            "GET /v1/services/{service}/sync-log",
            "/v1/services/shop/sync-log",
            none(),
        ),
        ("GET /v1/clusters", "/v1/clusters", none()),
        ("GET /v1/services", "/v1/services", none()),
        ("GET /v1/services/{service}", "/v1/services/shop", none()),
        ("GET /v1/services/{service}", "/v1/services/none", none()),
        ("GET /v1/history", "/v1/history?limit=9", none()),
        ("GET /v1/history", "/v1/history?limit=x", none()),
    ] {
        let (method, _) = operation.split_once(' ').unwrap();
        if let Some(schema) = operations(&document)[operation]
            .pointer("/requestBody/content/application~1json/schema")
            && body != json!({})
        {
            fits(&document, schema, &body, operation).unwrap();
        }
        let response = fixture.call(request(method, path, body)).await;
        check(&document, operation, response).await;
    }
    let fixture = Fixture::new(SOON);
    refuse(&fixture);
    for (operation, path) in [
        ("GET /v1/status", "/v1/status"),
        ("GET /v1/policy", "/v1/policy"),
        ("GET /v1/decisions", "/v1/decisions"),
        ("GET /v1/history", "/v1/history"),
        ("GET /readyz", "/readyz"),
    ] {
        check(&document, operation, fixture.get(path).await).await;
    }
}
