//! Reads an answer to its end, and no further than a limit.

use reqwest::Response;

/// Why an answer was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// No answer, or not in time.
    #[error("no answer: {}", root(.0))]
    Http(#[source] reqwest::Error),
    /// An answer without end.
    #[error("the answer is larger than {0} bytes")]
    Large(usize),
}

impl From<reqwest::Error> for BodyError {
    /// Without the address, which may have a secret in it.
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error.without_url())
    }
}

/// The whole body, when it is not larger than `limit` bytes.
///
/// # Errors
/// When it is, or breaks off.
pub async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        if body.len() + part.len() > limit {
            return Err(BodyError::Large(limit));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// The innermost reason, which is the one that says something.
fn root(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
