//! From a request to its answer. Pure but for the clock's reading that comes in: methods, tokens,
//! codes. Bodies are never read.

use control::node::InstanceWish;
use http::{HeaderMap, Method, StatusCode};

use super::{
    token::{Key, TTL_S_MAX},
    tree::{self, Found, VERSIONS},
};

/// Asks for a token, or gives one.
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
/// A request that came through a proxy is not the guest's own: it may be a web application of the
/// guest that was talked into asking.
const FORWARDED_HEADER: &str = "x-forwarded-for";

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) body: Vec<u8>,
    /// The life of the token that the body is. Such an answer goes one hop and no further.
    pub(super) token_ttl_s: Option<u32>,
}

impl Answer {
    pub(super) fn plain(status: StatusCode) -> Self {
        let body = status
            .canonical_reason()
            .unwrap_or_default()
            .as_bytes()
            .to_vec();
        Self {
            status,
            kind: "text/plain",
            body,
            token_ttl_s: None,
        }
    }
}

/// Answers a request of this instance.
pub(super) fn answer(
    wish: &InstanceWish,
    key: &Key,
    now_ms: i64,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Answer {
    match *method {
        Method::PUT => put(wish, key, now_ms, path, headers),
        Method::GET | Method::HEAD => get(wish, key, now_ms, path, headers),
        _ => Answer::plain(StatusCode::METHOD_NOT_ALLOWED),
    }
}

fn put(wish: &InstanceWish, key: &Key, now_ms: i64, path: &str, headers: &HeaderMap) -> Answer {
    if !is_token_path(path) {
        return Answer::plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    if headers.contains_key(FORWARDED_HEADER) {
        return Answer::plain(StatusCode::FORBIDDEN);
    }
    match token_ttl_s(headers) {
        Some(ttl_s) => Answer {
            status: StatusCode::OK,
            kind: "text/plain",
            body: key.token(&wish.instance, now_ms, ttl_s).into_bytes(),
            token_ttl_s: Some(ttl_s),
        },
        None => Answer::plain(StatusCode::BAD_REQUEST),
    }
}

fn is_token_path(path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    segments
        .next()
        .is_some_and(|version| VERSIONS.contains(&version))
        && segments.eq(["api", "token"])
}

fn token_ttl_s(headers: &HeaderMap) -> Option<u32> {
    let text = headers.get(TTL_HEADER)?.to_str().ok()?;
    text.trim()
        .parse()
        .ok()
        .filter(|ttl_s| (1..=TTL_S_MAX).contains(ttl_s))
}

fn get(wish: &InstanceWish, key: &Key, now_ms: i64, path: &str, headers: &HeaderMap) -> Answer {
    let admitted = match headers.get(TOKEN_HEADER) {
        Some(token) => key.admits(token.as_bytes(), &wish.instance, now_ms),
        None => !wish.spec.metadata.tokens_required,
    };
    if !admitted {
        return Answer::plain(StatusCode::UNAUTHORIZED);
    }
    let (kind, body) = match tree::find(wish, path) {
        Some(Found::Text(body)) => ("text/plain", body),
        Some(Found::Bytes(body)) => ("application/octet-stream", body),
        None => return Answer::plain(StatusCode::NOT_FOUND),
    };
    Answer {
        status: StatusCode::OK,
        kind,
        body,
        token_ttl_s: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes;

    struct Guest {
        wish: InstanceWish,
        key: Key,
        _state: tempfile::TempDir,
    }

    impl Guest {
        fn new() -> Self {
            let state = tempfile::tempdir().unwrap();
            let key = Key::load_or_make(state.path()).unwrap();
            Self {
                wish: fakes::wish(1),
                key,
                _state: state,
            }
        }

        fn ask(&self, method: Method, path: &str, headers: &[(&'static str, &str)]) -> Answer {
            let headers = headers
                .iter()
                .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
                .collect();
            answer(&self.wish, &self.key, 0, &method, path, &headers)
        }

        fn status(&self, method: Method, path: &str, headers: &[(&'static str, &str)]) -> u16 {
            self.ask(method, path, headers).status.as_u16()
        }
    }

    const ID: &str = "/latest/meta-data/instance-id";
    const API: &str = "/latest/api/token";

    #[test]
    fn without_a_token_version_1_is_served_unless_tokens_are_required() {
        let mut guest = Guest::new();
        assert_eq!(guest.ask(Method::GET, ID, &[]).body, b"i-00000001");
        assert_eq!(guest.status(Method::HEAD, ID, &[]), 200);
        guest.wish.spec.metadata.tokens_required = true;
        assert_eq!(guest.status(Method::GET, ID, &[]), 401);
    }

    #[test]
    fn a_token_opens_what_is_closed_and_a_wrong_one_closes_what_is_open() {
        let mut guest = Guest::new();
        assert_eq!(
            guest.status(Method::GET, ID, &[(TOKEN_HEADER, "AAAA")]),
            401
        );
        guest.wish.spec.metadata.tokens_required = true;
        let token = guest.ask(Method::PUT, API, &[(TTL_HEADER, "60")]);
        assert_eq!(token.token_ttl_s, Some(60));
        let token = String::from_utf8(token.body).unwrap();
        assert_eq!(
            guest.status(Method::GET, ID, &[(TOKEN_HEADER, &token)]),
            200
        );
        guest.wish.instance = "i-00000002".parse().unwrap();
        assert_eq!(
            guest.status(Method::GET, ID, &[(TOKEN_HEADER, &token)]),
            401
        );
    }

    #[test]
    fn a_token_is_refused_for_a_wrong_life_and_through_a_proxy() {
        let guest = Guest::new();
        for ttl in ["0", "21601", "-1", "x", ""] {
            assert_eq!(
                guest.status(Method::PUT, API, &[(TTL_HEADER, ttl)]),
                400,
                "{ttl}"
            );
        }
        assert_eq!(guest.status(Method::PUT, API, &[]), 400);
        assert_eq!(
            guest.status(Method::PUT, API, &[(TTL_HEADER, "21600")]),
            200
        );
        let proxied = [(TTL_HEADER, "60"), (FORWARDED_HEADER, "1.2.3.4")];
        assert_eq!(guest.status(Method::PUT, API, &proxied), 403);
    }

    #[test]
    fn other_methods_and_paths_are_refused() {
        let guest = Guest::new();
        assert_eq!(guest.status(Method::POST, API, &[]), 405);
        assert_eq!(guest.status(Method::PUT, ID, &[]), 405);
        assert_eq!(guest.status(Method::GET, "/latest/api/token", &[]), 404);
        assert_eq!(
            guest.status(Method::GET, "/latest/../../etc/passwd", &[]),
            404
        );
    }
}
