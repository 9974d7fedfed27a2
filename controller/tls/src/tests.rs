use super::*;

#[test]
fn an_id_has_to_be_one_of_the_names() {
    for (name, san, id, expected) in [
        ("dns", "e1", "e1", true),
        (
            "dns in capitals",
            "Edge.Example.Com",
            "edge.example.com",
            true,
        ),
        ("part of a dns name", "e1.example.com", "e1", false),
        (
            "whole spiffe uri",
            "spiffe://mesh/ns/x/e1",
            "spiffe://mesh/ns/x/e1",
            true,
        ),
        ("its last segment", "spiffe://mesh/ns/x/e1", "e1", true),
        ("another segment", "spiffe://mesh/ns/x/e1", "x", false),
        (
            "capitals in a spiffe uri",
            "spiffe://mesh/ns/x/e1",
            "E1",
            false,
        ),
        (
            "a spiffe uri that ends with a slash",
            "spiffe://mesh/ns/",
            "",
            false,
        ),
        ("the trust domain", "spiffe://mesh", "mesh", false),
        (
            "last segment of another uri",
            "https://mesh/e1",
            "e1",
            false,
        ),
        (
            "whole other uri",
            "https://mesh/e1",
            "https://mesh/e1",
            true,
        ),
    ] {
        assert_eq!(Names(vec![san.to_owned()]).allow(id), expected, "{name}");
    }
    assert!(!Names::default().allow(""));
    assert_eq!(Names::default().to_string(), "which names nobody");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(path("cert"), signed.cert.pem()).unwrap();
    std::fs::write(path("key"), signed.signing_key.serialize_pem()).unwrap();
    std::fs::write(path("other-key"), other.signing_key.serialize_pem()).unwrap();
    std::fs::write(path("text"), "no PEM").unwrap();
    for (name, cert, key, client_ca, expected) in [
        ("fine", "cert", "key", "cert", None),
        (
            "no file",
            "none",
            "key",
            "cert",
            Some("none` cannot be read"),
        ),
        (
            "no certificate",
            "text",
            "key",
            "cert",
            Some("text` has no certificate"),
        ),
        (
            "no key",
            "cert",
            "text",
            "cert",
            Some("text` has no private key"),
        ),
        (
            "no authority",
            "cert",
            "key",
            "text",
            Some("text` has no certificate"),
        ),
        (
            "another key",
            "cert",
            "other-key",
            "cert",
            Some("cannot be used together"),
        ),
    ] {
        let (_stop, stopped) = watch::channel(false);
        let files = Files {
            cert: path(cert),
            key: path(key),
            client_ca: path(client_ca),
        };
        let message = Tls::open(files, Protocol::Http1, stopped)
            .err()
            .map(|error| error.to_string());
        match expected {
            None => assert_eq!(message, None, "{name}"),
            Some(expected) => {
                let message = message.expect(name);
                assert!(message.contains(expected), "{name}: {message}");
            }
        }
    }
}
