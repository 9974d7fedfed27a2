//! `GET /v1/policy`: the policy in force, as it was written.

use axum::Json;
use axum::extract::State;
use ombre_policy::document::Revision;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::app::openapi::Conflict;
use crate::error::ApiError;
use crate::timestamp;

/// The files of the policy in force. What they refer to is left out: it may be a token.
#[derive(Serialize, ToSchema)]
pub struct PolicyText {
    #[schema(value_type = u64)]
    revision: Revision,
    loaded_at: String,
    files: Vec<File>,
}

#[derive(Serialize, ToSchema)]
struct File {
    name: String,
    /// Absent when the file itself holds a token. With `token_file` instead it is shown.
    text: Option<String>,
}

/// `GET /v1/policy`.
///
/// # Errors
/// 409 when there has been no good policy yet.
#[utoipa::path(get, path = "/v1/policy", operation_id = "policy", tag = "policy",
    responses((status = 200, description = "the files of the policy in force", body = PolicyText), Conflict))]
pub async fn get(State(app): State<App>) -> Result<Json<PolicyText>, ApiError> {
    let now = app.publisher.view().in_force;
    let now = now.ok_or_else(ApiError::no_policy)?;
    let files = now.compiled.sources.iter().map(|source| File {
        name: source.name.clone(),
        text: (!holds_token(&source.text)).then(|| source.text.clone()),
    });
    Ok(Json(PolicyText {
        revision: now.revision,
        loaded_at: timestamp::text(now.loaded_at),
        files: files.collect(),
    }))
}

/// Whether a key `token` stands anywhere. Errs on the side of yes: a secret in a comment is one.
fn holds_token(text: &str) -> bool {
    text.split("token").skip(1).any(|rest| {
        let rest = rest.trim_start_matches(['"', '\'']).trim_start();
        rest.starts_with(':')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_policy_is_noticed_however_it_is_written() {
        for (text, expected) in [
            ("verification: { token: abc }", true),
            ("verification:\n  token : abc", true),
            ("verification: {\"token\":\"abc\"}", true),
            ("# 'token': abc", true),
            ("verification: { token_file: secret }", false),
            ("verification: open # no token", false),
        ] {
            assert_eq!(holds_token(text), expected, "{text}");
        }
    }
}
