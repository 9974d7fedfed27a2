use super::*;
use std::error::Error;

use axum::Router;
use axum::routing::get;

use secure::Secure;

/// The innermost reason.
fn root(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}

async fn ask(server: &Secure, clients: &Clients) -> Result<String, reqwest::Error> {
    let client = clients.builder().no_proxy().build().unwrap();
    client.get(&server.url).send().await?.text().await
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_given_and_only_then() {
    let app = || Router::new().route("/", get(async || "hello"));
    let server = Secure::start(app(), "localhost").await;
    let trusting = Clients::new(Some(&server.ca_file)).unwrap();
    assert_eq!(ask(&server, &trusting).await.unwrap(), "hello");

    let strange = Clients::new(None).unwrap();
    let error = ask(&server, &strange).await.unwrap_err();
    assert!(root(&error).contains("UnknownIssuer"), "{}", root(&error));

    let other = Secure::start(app(), "elsewhere.example").await;
    let trusting = Clients::new(Some(&other.ca_file)).unwrap();
    let error = ask(&other, &trusting).await.unwrap_err();
    assert!(root(&error).contains("not valid for"), "{}", root(&error));
}

#[test]
fn a_file_without_certificates_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, text, expected) in [
        ("empty", Some(""), "has no certificate"),
        ("another", Some("hello"), "has no certificate"),
        ("broken", Some(broken), "cannot be used"),
        ("missing", None, "cannot be read"),
    ] {
        let path = dir.path().join(name);
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let error = Clients::new(Some(&path)).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}
