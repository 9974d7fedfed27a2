//! Who listens on the loopback is meant for this machine alone. A web page cannot reach it under
//! a name of its own (DNS rebinding), because such a name is refused here.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower_http::validate_request::ValidateRequest;

use crate::error::ApiError;

/// Refuses requests that were sent to a name that a stranger could own.
#[derive(Clone, Copy, Debug)]
pub struct Hosts {
    /// Whether there is anything to refuse: who serves other machines has names that are not known here.
    pub local_only: bool,
}

impl<B> ValidateRequest<B> for Hosts {
    type ResponseBody = Body;

    fn validate(&mut self, request: &mut Request<B>) -> Result<(), Response> {
        let host = request.headers().get(header::HOST);
        let host = host.map_or("localhost", |host| host.to_str().unwrap_or("."));
        if !self.local_only || is_local(host) {
            return Ok(());
        }
        let detail = "this address serves its own machine; use `localhost`, an IP address or a name without a dot";
        Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, detail).into_response())
    }
}

/// An IP address or a name without a dot (which Envoy's clusters are called, and which nobody
/// can register), with or without a port.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.parse::<IpAddr>().is_ok() || !name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_can_register_are_local() {
        for (host, expected) in [
            ("localhost:8600", true),
            ("127.0.0.1:8600", true),
            ("[::1]:8600", true),
            ("[::1]", true),
            ("ombre", true),
            ("", true),
            ("evil.example", false),
            ("evil.example:8600", false),
            ("127.0.0.1.evil.example", false),
            ("[evil.example]", false),
        ] {
            assert_eq!(is_local(host), expected, "{host}");
        }
    }
}
