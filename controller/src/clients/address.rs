//! Addresses as logs and the API may show them: an address can be a secret, or have one in it.

use reqwest::Url;

/// Without user, password, query and fragment, any of which may let somebody in.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // These fail only for addresses that have no place for them.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Scheme, host and port alone: a webhook's path is often all that one needs to post to it.
pub fn origin(url: &Url) -> String {
    let (scheme, host) = (url.scheme(), url.host_str().unwrap_or_default());
    match url.port() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        for (address, path_shown, only_origin) in [
            (
                "https://hooks.slack.com/services/T0/B0/secret",
                "https://hooks.slack.com/services/T0/B0/secret",
                "https://hooks.slack.com",
            ),
            (
                "http://ann:secret@[::1]:9901/stats?token=secret#secret",
                "http://[::1]:9901/stats",
                "http://[::1]:9901",
            ),
            ("ftp://ann@host/x", "ftp://host/x", "ftp://host"),
            (
                "mailto:ann@example.com",
                "mailto:ann@example.com",
                "mailto://",
            ),
        ] {
            let url: Url = address.parse().unwrap();
            assert_eq!(shown(&url), path_shown, "{address}");
            assert_eq!(origin(&url), only_origin, "{address}");
        }
    }
}
