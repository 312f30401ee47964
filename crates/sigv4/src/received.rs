//! The request as it came off the wire, and what its service demands of a signature.

use http::HeaderMap;

/// EC2, IAM and STS: five minutes each way (`facts/ec2.md` 3.8).
pub const QUERY_WINDOW_MS: i64 = 5 * 60 * 1000;
/// S3: fifteen minutes each way.
pub const S3_WINDOW_MS: i64 = 15 * 60 * 1000;
/// The longest life of a presigned request: seven days.
pub const PRESIGN_MAX_SECS: i64 = 7 * 24 * 3600;
/// The longest life of a version 2 request to a query service by its own `Expires`: whoever checks
/// for replays has to remember it so long.
pub const QUERY_EXPIRES_MAX_SECS: i64 = 15 * 60;

/// Where Walrus lives below the front door; euca2ools' version 2 signatures leave it out.
pub const S3_PREFIXES: [&str; 2] = ["/services/objectstorage", "/services/Walrus"];

/// A request as received: nothing decoded, nothing normalised.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// `GET`, `POST`, ...
    pub method: &'a str,
    /// The path as it stood in the request line, without the query.
    pub path: &'a str,
    /// What followed the `?`, or nothing.
    pub query: &'a str,
    /// All headers, the `Host` among them.
    pub headers: &'a HeaderMap,
    /// The bucket, where the `Host` names it (`bucket.s3.DOMAIN`).
    pub host_bucket: Option<&'a str>,
}

impl<'a> Received<'a> {
    /// The request whose head hyper parsed.
    pub fn of(head: &'a http::request::Parts) -> Self {
        Self {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or(""),
            headers: &head.headers,
            host_bucket: None,
        }
    }

    /// The one value of a header, as text.
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The value of a query field, decoded; the first if there are several.
    pub(crate) fn query_field(&self, name: &str) -> Option<String> {
        crate::pairs(self.query)
            .find(|(key, _)| crate::decode(key) == name.as_bytes())
            .map(|(_, value)| text(crate::decode(value)))
    }

    /// The host, with its port, as the client wrote it.
    pub(crate) fn host(&self) -> &'a str {
        self.header("host").unwrap_or("")
    }
}

pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a service demands of a signature.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How far the clocks may differ.
    pub window_ms: i64,
    /// The services that a version 4 scope may name.
    pub services: &'static [&'static str],
    /// S3's own ways: the payload in its header, streamed bodies, version 2 over headers.
    pub s3: bool,
    /// Whether versions 1 and 2 are spoken at all.
    pub version_2: bool,
}

impl Rules {
    /// The query services: EC2, IAM, STS, bootstrap and the names that euca2ools gives them.
    pub const QUERY: Rules = Rules {
        window_ms: QUERY_WINDOW_MS,
        services: &[
            "ec2",
            "iam",
            "sts",
            "bootstrap",
            "properties",
            "reporting",
            "monitoring",
            "autoscaling",
            "elasticloadbalancing",
            "cloudformation",
            "euare",
            "tokens",
            "empyrean",
        ],
        s3: false,
        version_2: true,
    };

    /// The object store.
    pub const S3: Rules = Rules {
        window_ms: S3_WINDOW_MS,
        services: &["s3"],
        s3: true,
        version_2: true,
    };
}
