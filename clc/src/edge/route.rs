//! Which service a request is for. By its path first (each service has aliases from Eucalyptus's
//! time, with and without a trailing slash), then by the host's first label, then by what its
//! signature is scoped to, then by its parameters; what is left is S3.

use http::{HeaderMap, Method};

/// A query service that we serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Compute.
    Ec2,
    /// Identity and access; Eucalyptus calls it Euare.
    Iam,
    /// Tokens.
    Sts,
    /// Eucalyptus's bootstrap service; it gives bundlers the cloud's certificate.
    Bootstrap,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// One of ours.
    Query(Service),
    /// A service of AWS that this cloud does not have, by its name.
    NotServed(&'static str),
    /// The object store.
    S3,
}

impl Service {
    /// Its name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Iam => "iam",
            Self::Sts => "sts",
            Self::Bootstrap => "bootstrap",
        }
    }

    /// The names that a version 4 scope may give it.
    pub const fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Ec2 => &["ec2", "compute", "eucalyptus"],
            Self::Iam => &["iam", "euare"],
            Self::Sts => &["sts", "tokens"],
            Self::Bootstrap => &["bootstrap", "empyrean"],
        }
    }
}

/// Every path alias. Paths below one belong to S3 only for S3's own.
const ALIASES: [(&str, Route); 14] = [
    ("/services/compute", Route::Query(Service::Ec2)),
    ("/services/Eucalyptus", Route::Query(Service::Ec2)),
    ("/services/Euare", Route::Query(Service::Iam)),
    ("/services/Tokens", Route::Query(Service::Sts)),
    ("/services/Empyrean", Route::Query(Service::Bootstrap)),
    ("/services/objectstorage", Route::S3),
    ("/services/Walrus", Route::S3),
    (
        "/services/LoadBalancing",
        Route::NotServed("elasticloadbalancing"),
    ),
    ("/services/AutoScaling", Route::NotServed("autoscaling")),
    (
        "/services/CloudFormation",
        Route::NotServed("cloudformation"),
    ),
    ("/services/CloudWatch", Route::NotServed("monitoring")),
    ("/services/Properties", Route::NotServed("properties")),
    ("/services/Reporting", Route::NotServed("reporting")),
    ("/services/SimpleWorkflow", Route::NotServed("swf")),
];

/// What a scope or the first label of a host may say.
const NAMES: [(&str, Route); 20] = [
    ("ec2", Route::Query(Service::Ec2)),
    ("compute", Route::Query(Service::Ec2)),
    ("eucalyptus", Route::Query(Service::Ec2)),
    ("iam", Route::Query(Service::Iam)),
    ("euare", Route::Query(Service::Iam)),
    ("sts", Route::Query(Service::Sts)),
    ("tokens", Route::Query(Service::Sts)),
    ("bootstrap", Route::Query(Service::Bootstrap)),
    ("empyrean", Route::Query(Service::Bootstrap)),
    ("s3", Route::S3),
    ("objectstorage", Route::S3),
    ("walrus", Route::S3),
    (
        "elasticloadbalancing",
        Route::NotServed("elasticloadbalancing"),
    ),
    ("autoscaling", Route::NotServed("autoscaling")),
    ("cloudformation", Route::NotServed("cloudformation")),
    ("monitoring", Route::NotServed("monitoring")),
    ("cloudwatch", Route::NotServed("monitoring")),
    ("properties", Route::NotServed("properties")),
    ("reporting", Route::NotServed("reporting")),
    ("swf", Route::NotServed("swf")),
];

/// Chooses the service by the head of a request.
pub fn choose(method: &Method, path: &str, query: &str, headers: &HeaderMap) -> Route {
    if let Some(route) = by_path(path) {
        return route;
    }
    if path != "/" && !path.is_empty() {
        return Route::S3;
    }
    by_host(headers)
        .or_else(|| by_scope(query, headers))
        .unwrap_or_else(|| by_parameters(method, query, headers))
}

fn by_path(path: &str) -> Option<Route> {
    ALIASES.iter().find_map(|(alias, route)| {
        let rest = path.strip_prefix(alias)?;
        let is_whole = rest.is_empty() || rest == "/";
        let is_below = *route == Route::S3 && rest.starts_with('/');
        (is_whole || is_below).then_some(*route)
    })
}

/// `ec2.cloud.example`: only a name with a domain, so that a machine called `s3` is no service.
fn by_host(headers: &HeaderMap) -> Option<Route> {
    let host = headers
        .get(http::header::HOST)?
        .to_str()
        .ok()?
        .to_ascii_lowercase();
    let name = host
        .rsplit_once(':')
        .map_or(host.as_str(), |(name, _)| name);
    let (first, domain) = name.split_once('.')?;
    // `bucket.s3.DOMAIN`, and `bucket.s3-website.DOMAIN` for a bucket's website.
    let is_store = |label: &str| label == "s3" || label.starts_with("s3-website");
    if domain.split('.').any(is_store) {
        return Some(Route::S3);
    }
    by_name(first)
}

fn by_name(name: &str) -> Option<Route> {
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, route)| *route)
}

/// The scope of a version 4 signature, or S3's own version 2 header.
fn by_scope(query: &str, headers: &HeaderMap) -> Option<Route> {
    if let Some(value) = headers.get(http::header::AUTHORIZATION) {
        let text = value.to_str().ok()?.trim();
        if text.starts_with("AWS ") {
            return Some(Route::S3);
        }
        let credential = text.split("Credential=").nth(1)?;
        return service_of(credential.split([',', ' ']).next()?);
    }
    let (_, credential) = sigv4::pairs(query).find(|(name, _)| *name == "X-Amz-Credential")?;
    let credential = String::from_utf8(sigv4::decode(credential)).ok()?;
    service_of(&credential)
}

fn service_of(credential: &str) -> Option<Route> {
    by_name(&credential.rsplit('/').nth(1)?.to_ascii_lowercase())
}

/// At `/`: a POST of a form and a GET with an Action are a query service's; the rest is S3's.
fn by_parameters(method: &Method, query: &str, headers: &HeaderMap) -> Route {
    let has_action = sigv4::pairs(query).any(|(name, _)| name == "Action");
    let is_multipart = headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"multipart/"));
    if has_action || (*method == Method::POST && !is_multipart) {
        Route::Query(Service::Ec2)
    } else {
        Route::S3
    }
}

/// At `/` an unscoped (version 1 or 2) request is told apart by the API version that it names.
pub fn by_version(version: &str) -> Service {
    match version {
        "2011-06-15" => Service::Sts,
        "2010-05-08" => Service::Iam,
        "eucalyptus" => Service::Bootstrap,
        _ => Service::Ec2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, headers: &[(&str, &str)], expected: Route) {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            map.insert(name, value.parse().unwrap());
        }
        let route = choose(&method.parse().unwrap(), path, query, &map);
        assert_eq!(route, expected, "{line} {headers:?}");
    }

    const EC2: Route = Route::Query(Service::Ec2);

    #[test]
    fn each_alias_leads_with_and_without_its_slash() {
        for slash in ["", "/"] {
            check(&format!("POST /services/compute{slash}"), &[], EC2);
            check(&format!("POST /services/Eucalyptus{slash}"), &[], EC2);
            check(
                &format!("POST /services/Euare{slash}"),
                &[],
                Route::Query(Service::Iam),
            );
            check(
                &format!("POST /services/Tokens{slash}"),
                &[],
                Route::Query(Service::Sts),
            );
            check(
                &format!("GET /services/Empyrean{slash}"),
                &[],
                Route::Query(Service::Bootstrap),
            );
            check(
                &format!("GET /services/objectstorage{slash}"),
                &[],
                Route::S3,
            );
            check(
                &format!("GET /services/AutoScaling{slash}"),
                &[],
                Route::NotServed("autoscaling"),
            );
        }
        check("PUT /services/objectstorage/b/k", &[], Route::S3);
        check("PUT /services/Walrus/b/k?acl", &[], Route::S3);
    }

    #[test]
    fn what_is_below_a_query_services_path_or_beside_it_is_a_bucket() {
        check("GET /services/computer", &[], Route::S3);
        check("GET /services/compute/x", &[], Route::S3);
        check("GET /services", &[], Route::S3);
        check("PUT /bucket/key?Action=x", &[], Route::S3);
    }

    #[test]
    fn at_the_root_the_scope_of_the_signature_decides() {
        let scoped = |service: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential=AKID/20261123/undefined-1/{service}/aws4_request, \
                 SignedHeaders=host, Signature=0"
            )
        };
        check("POST /", &[("authorization", &scoped("ec2"))], EC2);
        check(
            "POST /",
            &[("authorization", &scoped("sts"))],
            Route::Query(Service::Sts),
        );
        check("GET /", &[("authorization", &scoped("s3"))], Route::S3);
        check(
            "POST /",
            &[("authorization", &scoped("swf"))],
            Route::NotServed("swf"),
        );
        check("GET /", &[("authorization", "AWS AKID:sig")], Route::S3);
        let query = "GET /?Action=A&X-Amz-Credential=AKID%2F20261123%2Fr%2Fiam%2Faws4_request";
        check(query, &[], Route::Query(Service::Iam));
    }

    #[test]
    fn the_hosts_first_label_names_a_service_and_addresses_do_not() {
        check("POST /", &[("host", "ec2.cloud.example:8773")], EC2);
        check("GET /", &[("host", "S3.cloud.example")], Route::S3);
        check(
            "GET /",
            &[("host", "my.bucket.s3.cloud.example")],
            Route::S3,
        );
        let website = ("host", "ec2.s3-website-mallee-1.cloud.example:8773");
        check("GET /", &[website], Route::S3);
        check("POST /", &[("host", "127.0.0.1:8773")], EC2);
        check("GET /", &[("host", "iam:8773")], Route::S3);
    }

    #[test]
    fn unscoped_requests_at_the_root_are_told_apart_by_their_parameters() {
        check("POST /", &[], EC2);
        check("GET /?Action=DescribeRegions&AWSAccessKeyId=A", &[], EC2);
        check("GET /", &[], Route::S3);
        check(
            "POST /",
            &[("content-type", "multipart/form-data; boundary=x")],
            Route::S3,
        );
        assert_eq!(by_version("2011-06-15"), Service::Sts);
        assert_eq!(by_version("2010-08-31"), Service::Ec2);
    }
}
