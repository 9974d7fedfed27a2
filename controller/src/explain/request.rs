//! A request to ask about, as people write it.

use axum::http::uri::InvalidUri;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use ombre_policy::explain::Question;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::args::ExplainArgs;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `GET` when it is not said.
    #[serde(default = "get")]
    pub method: String,
    /// Absolute, or only a path.
    pub url: String,
    /// In the order in which they are sent.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// Why a request makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Of the method.
    #[error("`{0}` is not a method; write one like `GET`")]
    Method(String),
    /// Of the URL.
    #[error(
        "`{url}` is not a URL: {source}; write one like `http://shop.example.com/checkout` or `/checkout`"
    )]
    Url {
        /// What was written.
        url: String,
        /// What is wrong with it.
        source: InvalidUri,
    },
    /// It has no path.
    #[error("`{0}` has no path; write one like `http://shop.example.com/checkout` or `/checkout`")]
    NoPath(String),
    /// Of a header's shape.
    #[error("`{0}` is not a header; write `name: value`")]
    Header(String),
    /// Of a header's name.
    #[error("`{0}` is not a header's name")]
    HeaderName(String),
    /// Of a header's value.
    #[error("the value of `{0}` has characters that a header may not have")]
    HeaderValue(String),
}

impl Request {
    /// The request that a command line describes.
    ///
    /// # Errors
    /// When a header is not `name: value`.
    pub fn from_args(args: &ExplainArgs) -> Result<Self, RequestError> {
        let headers = args.headers.iter().map(|header| {
            let (name, value) = header
                .split_once(':')
                .ok_or_else(|| RequestError::Header(header.clone()))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        });
        Ok(Self {
            method: args.method.clone(),
            url: args.url.clone(),
            headers: headers.collect::<Result<_, _>>()?,
        })
    }

    /// The question to the plan: the `Host` header is the authority, as in Envoy.
    ///
    /// # Errors
    /// When no such request could be sent.
    pub fn question(&self) -> Result<Question, RequestError> {
        let method = Method::from_bytes(self.method.as_bytes())
            .map_err(|_| RequestError::Method(self.method.clone()))?;
        let uri: Uri = self.url.parse().map_err(|source| RequestError::Url {
            url: self.url.clone(),
            source,
        })?;
        let target = uri
            .path_and_query()
            .filter(|target| target.as_str().starts_with('/'))
            .ok_or_else(|| RequestError::NoPath(self.url.clone()))?;
        let mut authority = uri.authority().map_or("", |authority| authority.as_str());
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| RequestError::HeaderName(name.clone()))?;
            HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| RequestError::HeaderValue(name.clone()))?;
            if name.eq_ignore_ascii_case("host") {
                authority = value;
            } else {
                headers.push((name.clone(), value.clone()));
            }
        }
        Ok(Question {
            method: method.to_string(),
            scheme: uri.scheme_str().unwrap_or("http").to_owned(),
            authority: authority.to_owned(),
            target: target.to_string(),
            headers,
        })
    }
}

fn get() -> String {
    "GET".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter();
        Request {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn a_request_becomes_a_question() {
        let sent = [("X-User-Id", "7"), ("Host", "a.example")];
        let question = request("POST", "http://shop.example/cart?x=1", &sent).question();
        let expected = Question {
            method: "POST".to_owned(),
            scheme: "http".to_owned(),
            authority: "a.example".to_owned(),
            target: "/cart?x=1".to_owned(),
            headers: vec![("X-User-Id".to_owned(), "7".to_owned())],
        };
        assert_eq!(question.unwrap(), expected);
    }

    #[test]
    fn what_could_not_be_sent_is_refused() {
        for (name, request, expected) in [
            ("method", request("G T", "/", &[]), "`G T` is not a method"),
            ("url", request("GET", "http://a b/", &[]), "is not a URL"),
            (
                "no path",
                request("GET", "shop.example", &[]),
                "has no path",
            ),
            (
                "header name",
                request("GET", "/", &[("a b", "")]),
                "`a b` is not a header's name",
            ),
            (
                "header value",
                request("GET", "/", &[("a", "x\ny")]),
                "the value of `a`",
            ),
        ] {
            let error = request.question().unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
