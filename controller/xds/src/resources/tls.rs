//! TLS towards upstreams, whose certificates are always checked, and towards clients.

use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SubjectAltNameMatcher,
    TlsCertificate, UpstreamTlsContext,
};
use envoy_types::util::pack_any;
use ombre_policy::policy::{DownstreamTls, SubjectName, UpstreamTls};
use prost::Name;

use super::proto::{exactly, file};

pub(super) fn upstream(tls: &UpstreamTls, http2: bool) -> TransportSocket {
    let validation = CertificateValidationContext {
        trusted_ca: Some(file(&tls.ca)),
        match_typed_subject_alt_names: tls.san.iter().map(subject).collect(),
        ..CertificateValidationContext::default()
    };
    let identity = tls.identity.iter();
    socket(UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificates: identity.map(|(cert, key)| certificate(cert, key)).collect(),
            alpn_protocols: http2.then(|| "h2".to_owned()).into_iter().collect(),
            validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
            ..CommonTlsContext::default()
        }),
        sni: tls.sni.clone().unwrap_or_default(),
        ..UpstreamTlsContext::default()
    })
}

pub(super) fn downstream(tls: &DownstreamTls) -> TransportSocket {
    socket(DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificates: vec![certificate(&tls.cert, &tls.key)],
            alpn_protocols: ["h2", "http/1.1"].map(str::to_owned).into(),
            ..CommonTlsContext::default()
        }),
        ..DownstreamTlsContext::default()
    })
}

fn socket(context: impl Name) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_any(context))),
    }
}

fn certificate(cert: &str, key: &str) -> TlsCertificate {
    TlsCertificate {
        certificate_chain: Some(file(cert)),
        private_key: Some(file(key)),
        ..TlsCertificate::default()
    }
}

fn subject(name: &SubjectName) -> SubjectAltNameMatcher {
    let (san_type, text) = match name {
        SubjectName::Dns(name) => (SanType::Dns, name.clone()),
        SubjectName::Uri(uri) => (SanType::Uri, uri.clone()),
        SubjectName::Ip(ip) => (SanType::IpAddress, ip.to_string()),
    };
    SubjectAltNameMatcher {
        san_type: san_type.into(),
        matcher: Some(exactly(&text)),
        ..SubjectAltNameMatcher::default()
    }
}
