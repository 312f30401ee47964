//! Which bucket and key a request names. Three ways lead in: the path (`/bucket/key`), the host
//! (`bucket.s3.DOMAIN`), and Eucalyptus's path prefixes. The path is taken as it came and decoded
//! once, after it was split, so that an escaped slash in a bucket's place cannot become one. In a path
//! the bucket may have its owner's account before a colon; in a host a colon is a port's.

use crate::{BucketName, Code, Error, Key, Qualifier, Result, query};

/// The historical front doors, each with and without its trailing slash.
const PREFIXES: [&str; 2] = ["/services/objectstorage", "/services/Walrus"];

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The account's list of buckets.
    Account,
    /// A bucket.
    Bucket(BucketName),
    /// An object.
    Object(BucketName, Key),
}

/// The DNS names under which `bucket.NAME` means a bucket.
#[derive(Debug, Clone, Default)]
pub struct Domains(Vec<String>);

impl Domains {
    /// Domains without a leading dot, such as `s3.example.org`.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(
            names
                .into_iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
        )
    }

    /// The bucket that a host names, if it names one.
    pub fn bucket_of<'a>(&self, host: &'a str) -> Option<&'a str> {
        let host = host.rsplit_once(':').map_or(host, |(name, port)| {
            if port.bytes().all(|b| b.is_ascii_digit()) {
                name
            } else {
                host
            }
        });
        self.0.iter().find_map(|domain| {
            let at = host.len().checked_sub(domain.len() + 1)?;
            let (bucket, dot) = (host.get(..at)?, host.get(at..at + 1)?);
            let same = dot == "." && host[at + 1..].eq_ignore_ascii_case(domain);
            (same && !bucket.is_empty()).then_some(bucket)
        })
    }
}

/// The path without Eucalyptus's prefix, with its leading slash.
pub fn strip_prefix(path: &str) -> &str {
    for prefix in PREFIXES {
        match path.strip_prefix(prefix) {
            Some("") => return "/",
            Some(rest) if rest.starts_with('/') => return rest,
            _ => {}
        }
    }
    path
}

/// What a request is about, and whose it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// What.
    pub address: Address,
    /// The account before the bucket's colon.
    pub qualifier: Option<Qualifier>,
}

/// Reads host and raw path.
pub fn locate(domains: &Domains, host: Option<&str>, path: &str) -> Result<Located> {
    let path = strip_prefix(path);
    let path = path
        .strip_prefix('/')
        .ok_or_else(|| Error::from(Code::InvalidURI))?;

    if let Some(bucket) = host.and_then(|host| domains.bucket_of(host)) {
        return Ok(Located {
            address: within(&bucket.to_ascii_lowercase(), path)?,
            qualifier: None,
        });
    }
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let bucket = query::decode(bucket)?;
    if bucket.is_empty() && key.is_empty() {
        return Ok(Located {
            address: Address::Account,
            qualifier: None,
        });
    }
    if bucket.is_empty() {
        return Err(Code::InvalidURI.into());
    }
    let (qualifier, bucket) = Qualifier::split(&bucket);
    Ok(Located {
        address: within(bucket, key)?,
        qualifier,
    })
}

fn within(bucket: &str, key: &str) -> Result<Address> {
    let bucket = BucketName::parse(bucket)?;
    match key {
        "" => Ok(Address::Bucket(bucket)),
        key => Ok(Address::Object(bucket, Key::parse(&query::decode(key)?)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, path: &str, expect: &str) {
        let domains = Domains::new(["s3.example.org".to_owned(), "localhost".to_owned()]);
        let located = locate(&domains, Some(host), path);
        let got = match located.map(|located| (located.address, located.qualifier)) {
            Ok((Address::Account, None)) => "account".to_owned(),
            Ok((Address::Bucket(bucket), None)) => format!("[{bucket}]"),
            Ok((Address::Bucket(bucket), Some(_))) => format!("…:[{bucket}]"),
            Ok((Address::Object(bucket, key), None)) => format!("[{bucket}] {key}"),
            Ok((Address::Object(bucket, key), Some(_))) => format!("…:[{bucket}] {key}"),
            Ok((Address::Account, Some(_))) => "an account of an account".to_owned(),
            Err(error) => error.code.as_str().to_owned(),
        };
        assert_eq!(got, expect, "{host} {path}");
    }

    #[test]
    fn an_account_before_a_colon_is_no_part_of_the_name() {
        check("h", "/111111111111:bucket", "…:[bucket]");
        check("h", "/:bucket/", "…:[bucket]");
        check("h", "/%3Abucket/k", "…:[bucket] k");
        check("h", "/111111111111%3abucket/a:b", "…:[bucket] a:b");
        check("h", "/services/Walrus/x:bucket/k", "…:[bucket] k");
        check("h", "/bucket/x:k", "[bucket] x:k");
        check("h", "/a%2Fb:bucket/k", "…:[bucket] k");
        for bad in [
            "/:",
            "/111111111111:",
            "/::bucket",
            "/a:b:bucket",
            "/%253Abucket",
        ] {
            check("h", bad, "InvalidBucketName");
        }
        check("x:bucket.s3.example.org", "/k", "InvalidBucketName");
        check("bucket.s3.example.org:80", "/:other/k", "[bucket] :other/k");
    }

    #[test]
    fn a_path_names_bucket_and_key() {
        check("localhost:8773", "/", "account");
        check("10.0.0.1:8773", "/bucket", "[bucket]");
        check("h", "/bucket/", "[bucket]");
        check("h", "/bucket/a%20b", "[bucket] a b");
        check("h", "/services/objectstorage", "account");
        check("h", "/services/objectstorage/", "account");
        check("h", "/services/Walrus/bucket/k", "[bucket] k");
        check("h", "/services/elsewhere", "[services] elsewhere");
    }

    #[test]
    fn a_host_names_a_bucket() {
        check("my.bucket.s3.example.org:80", "/a/b", "[my.bucket] a/b");
        check("Bucket.S3.Example.Org", "/", "[bucket]");
        check("s3.example.org", "/bucket", "[bucket]");
        check("bucket.localhost", "/k", "[bucket] k");
    }

    #[test]
    fn keys_are_never_paths() {
        check("h", "/bucket/../up", "[bucket] ../up");
        check("h", "/bucket//lead", "[bucket] /lead");
        check("h", "/bucket/a//b/", "[bucket] a//b/");
        check("h", "/bucket/%2525", "[bucket] %25");
        check("h", "/bucket/%2e%2e%2f", "[bucket] ../");
        check("h", "/..%2Fbucket/k", "InvalidBucketName");
        check("h", "//k", "InvalidURI");
        check("h", "/bucket/%ff", "InvalidURI");
        check(
            "h",
            &format!("/bucket/{}", "k".repeat(1025)),
            "KeyTooLongError",
        );
    }
}
