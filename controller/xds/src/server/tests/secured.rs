//! Mutual TLS as a client meets it.

use hyper_util::rt::TokioIo;
use ombre_tls::{Files, Protocol};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Endpoint, Uri};

use super::*;

/// An authority and a directory with what the server uses.
struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its key, as PEM.
struct Identity {
    cert: String,
    key: String,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let pki = Self {
            authority,
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::write(pki.dir.path().join("ca.pem"), pki.authority.pem()).unwrap();
        pki.give_server("localhost");
        pki
    }

    fn give_server(&self, name: &str) {
        let server = self.issue(&[SanType::DnsName(name.try_into().unwrap())]);
        std::fs::write(self.dir.path().join("key.pem"), server.key).unwrap();
        std::fs::write(self.dir.path().join("cert.pem"), server.cert).unwrap();
    }

    fn issue(&self, names: &[SanType]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        let cert = params.signed_by(&key, &self.authority).unwrap();
        Identity {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    fn files(&self) -> Files {
        let file = |name: &str| self.dir.path().join(name);
        Files {
            cert: file("cert.pem"),
            key: file("key.pem"),
            client_ca: file("ca.pem"),
        }
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

/// A channel to the server, which is believed to be `server`, with this identity or none.
async fn connect(
    address: SocketAddr,
    pki: &Pki,
    server: &'static str,
    identity: Option<&Identity>,
) -> Result<Channel, tonic::transport::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pki.authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let cert = CertificateDer::from_pem_slice(identity.cert.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            config.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let dial = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from(server).map_err(std::io::Error::other)?;
            let stream = connector.connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://xds")
        .connect_with_connector(dial)
        .await
}

/// What becomes of a stream that says it is `e1`: `Ok` when it is served.
async fn outcome(channel: Channel) -> Result<(), Status> {
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let (ask, asks) = asks();
    let told = client.stream_aggregated_resources(asks).await?.into_inner();
    let mut talk = Talk { ask, told };
    talk.say(asked(Type::Cluster, &[])).await;
    talk.next().await.map(drop)
}

#[tokio::test]
async fn a_node_is_believed_when_its_certificate_says_so() {
    let pki = Pki::new();
    let (_stop, stopped) = watch::channel(false);
    let tls = Tls::open(pki.files(), Protocol::Http2, stopped).unwrap();
    let running = Running::start(Limits::default(), Some(tls)).await;
    running.put(snapshot(5, &["a"]));
    for (name, names, served) in [
        ("dns name", vec![dns("e1")], true),
        ("one of two", vec![dns("other"), dns("e1")], true),
        ("spiffe", vec![uri("spiffe://mesh/ns/edge/e1")], true),
        ("another node", vec![dns("e2")], false),
        ("longer", vec![uri("spiffe://mesh/ns/edge/e10")], false),
        ("wildcard", vec![dns("*.e1")], false),
        ("no names", vec![], false),
    ] {
        let identity = pki.issue(&names);
        let channel = connect(running.address, &pki, "localhost", Some(&identity)).await;
        let outcome = outcome(channel.unwrap()).await;
        match served {
            true => assert!(outcome.is_ok(), "{name}: {outcome:?}"),
            false => {
                let status = outcome.expect_err(name);
                assert_eq!(status.code(), Code::PermissionDenied, "{name}: {status}");
                assert!(status.message().contains("`e1`"), "{name}: {status}");
            }
        }
    }
}

#[tokio::test]
async fn who_has_no_certificate_of_the_authority_gets_no_stream() {
    let pki = Pki::new();
    let (_stop, stopped) = watch::channel(false);
    let tls = Tls::open(pki.files(), Protocol::Http2, stopped).unwrap();
    let running = Running::start(Limits::default(), Some(tls)).await;
    running.put(snapshot(5, &["a"]));
    let foreign = Pki::new().issue(&[dns("e1")]);
    for (name, identity) in [("none", None), ("foreign", Some(&foreign))] {
        // With TLS 1.3 a client may hear of the refusal only after its own handshake was done.
        if let Ok(channel) = connect(running.address, &pki, "localhost", identity).await {
            assert!(outcome(channel).await.is_err(), "{name}");
        }
    }
    let plain = Channel::from_shared(format!("http://{}", running.address)).unwrap();
    if let Ok(channel) = plain.connect().await {
        assert!(outcome(channel).await.is_err(), "plain text");
    }
    assert!(running.registry.list().is_empty());
}

#[tokio::test]
async fn new_files_are_used_without_a_restart_and_broken_ones_are_not() {
    let pki = Pki::new();
    let (_stop, stopped) = watch::channel(false);
    let tls = Tls::open_looking(
        pki.files(),
        Protocol::Http2,
        stopped,
        Duration::from_millis(10),
    )
    .unwrap();
    let running = Running::start(Limits::default(), Some(tls)).await;
    running.put(snapshot(5, &["a"]));
    let identity = pki.issue(&[dns("e1")]);
    let reachable = async |name| {
        connect(running.address, &pki, name, Some(&identity))
            .await
            .is_ok()
    };
    assert!(reachable("localhost").await);
    assert!(!reachable("renewed").await);
    // A key alone does not fit the certificate: between the two writes the old pair stays.
    std::fs::write(pki.dir.path().join("key.pem"), "half a key").unwrap();
    sleep(Duration::from_millis(50)).await;
    assert!(reachable("localhost").await);
    pki.give_server("renewed");
    let deadline = Instant::now() + SOON;
    while !reachable("renewed").await {
        assert!(Instant::now() < deadline, "the new certificate is not used");
        sleep(Duration::from_millis(10)).await;
    }
}
