//! A bucket as a website: its index, its error page, where it sends its visitors.
//! The rules: S3 API reference, "PutBucketWebsite"; user guide, "Hosting a static website".

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{
    Code, Error, Key, Result,
    xml::{Element, Writer, malformed},
};

/// Rules of one website (user guide, "Configuring a webpage redirect").
const RULES_MAX: usize = 50;

/// A website.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Website {
    /// Every visitor is sent to another host.
    RedirectAll(Target),
    /// Objects are pages.
    Pages(Pages),
}

/// A host, perhaps with a scheme.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
}

/// The scheme of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

/// Objects as pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    index: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Rule>,
}

/// Where some visitors are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Rule {
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replace: Option<Replace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Replace {
    Key(String),
    Prefix(String),
}

/// The address that a visitor asked for.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// Whether it came over https.
    pub secure: bool,
    /// The host, with its port.
    pub host: &'a str,
    /// The path without its first slash, decoded.
    pub path: &'a str,
}

/// Where a visitor is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// A 3xx.
    pub status: StatusCode,
    /// The address.
    pub location: String,
}

impl Protocol {
    fn read(text: &str) -> Result<Self> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            _ => {
                let why = "Invalid protocol, protocol can be http or https. If not defined the \
                           protocol will be selected automatically.";
                Err(Error::new(Code::InvalidRequest, why))
            }
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// What a rule names, else what the visitor came by.
    fn chosen(named: Option<Self>, visit: Visit<'_>) -> &'static str {
        let came = if visit.secure {
            Self::Https
        } else {
            Self::Http
        };
        named.unwrap_or(came).as_str()
    }
}

impl Website {
    /// Reads a WebsiteConfiguration.
    pub fn read(body: &[u8]) -> Result<Self> {
        let configuration = Element::read(body, "WebsiteConfiguration")?;
        let pages = ["IndexDocument", "ErrorDocument", "RoutingRules"];
        if let Some(all) = configuration.child("RedirectAllRequestsTo") {
            if pages.iter().any(|name| configuration.child(name).is_some()) {
                let why = "RedirectAllRequestsTo cannot be provided in conjunction with other \
                           Routing Rules.";
                return Err(Error::new(Code::InvalidRequest, why));
            }
            let host = all.required("HostName")?.trim().to_owned();
            let protocol = all.text_of("Protocol").map(str::trim);
            let protocol = protocol.map(Protocol::read).transpose()?;
            if host.is_empty() {
                return Err(malformed("HostName is empty"));
            }
            return Ok(Self::RedirectAll(Target { host, protocol }));
        }
        Ok(Self::Pages(Pages {
            index: read_index(&configuration)?,
            error: read_error_page(&configuration)?,
            rules: read_rules(&configuration)?,
        }))
    }

    /// The document.
    pub fn write(&self) -> String {
        Writer::document("WebsiteConfiguration", |xml| match self {
            Self::RedirectAll(target) => xml.nest("RedirectAllRequestsTo", |xml| {
                xml.text("HostName", &target.host);
                xml.maybe("Protocol", target.protocol.map(Protocol::as_str));
            }),
            Self::Pages(pages) => pages.write(xml),
        })
    }

    /// Where every visitor is sent, if they are.
    pub fn redirect_all(&self, visit: Visit<'_>) -> Option<Redirect> {
        let Self::RedirectAll(target) = self else {
            return None;
        };
        let scheme = Protocol::chosen(target.protocol, visit);
        let path = crate::query::encode_key(visit.path);
        Some(Redirect {
            status: StatusCode::MOVED_PERMANENTLY,
            location: format!("{scheme}://{}/{path}", target.host),
        })
    }

    /// The pages, if there are any.
    pub fn pages(&self) -> Option<&Pages> {
        match self {
            Self::Pages(pages) => Some(pages),
            Self::RedirectAll(_) => None,
        }
    }
}

fn read_index(configuration: &Element) -> Result<String> {
    let index = configuration.child("IndexDocument");
    let index = index.ok_or_else(|| malformed("there is no IndexDocument"))?;
    let suffix = index.required("Suffix")?.trim().to_owned();
    if suffix.is_empty() || suffix.contains('/') {
        let why = "The IndexDocument Suffix is not well formed";
        return Err(Error::invalid_argument("IndexDocument.Suffix", suffix, why));
    }
    Ok(suffix)
}

fn read_error_page(configuration: &Element) -> Result<Option<String>> {
    let page = configuration.child("ErrorDocument");
    let key = page.map(|page| page.required("Key")).transpose()?;
    key.map(|key| {
        Key::parse(key.trim())?;
        Ok(key.trim().to_owned())
    })
    .transpose()
}

fn read_rules(configuration: &Element) -> Result<Vec<Rule>> {
    let rules = configuration.child("RoutingRules");
    let rules = rules.into_iter().flat_map(|rules| rules.all("RoutingRule"));
    let rules: Vec<_> = rules.map(Rule::read).collect::<Result<_>>()?;
    if rules.len() > RULES_MAX {
        let why = format!("Only {RULES_MAX} routing rules are allowed per website configuration.");
        return Err(Error::new(Code::InvalidRequest, why));
    }
    Ok(rules)
}

impl Rule {
    fn read(rule: &Element) -> Result<Self> {
        fn text(element: Option<&Element>, name: &str) -> Option<String> {
            let text = element.and_then(|element| element.text_of(name));
            text.map(|text| text.trim().to_owned())
        }
        let number = |text: Option<String>, name, allowed: &[u16]| {
            let Some(text) = text else {
                return Ok(None);
            };
            let number = text.parse().ok();
            let number =
                number.filter(|number| allowed.contains(&(number / 100)) && *number != 300);
            let why = "The provided HTTP code is not valid. Redirects have 3xx but 300, errors 4xx \
                       or 5xx.";
            let bad = || Error::invalid_argument(name, text, why);
            number.map(Some).ok_or_else(bad)
        };
        let redirect = rule.child("Redirect");
        let redirect = redirect.ok_or_else(|| malformed("a RoutingRule has no Redirect"))?;
        let (condition, to) = (rule.child("Condition"), Some(redirect));
        let replace = match (text(to, "ReplaceKeyWith"), text(to, "ReplaceKeyPrefixWith")) {
            (Some(_), Some(_)) => {
                let why = "You can only define ReplaceKeyPrefix or ReplaceKey but not both.";
                return Err(Error::new(Code::InvalidRequest, why));
            }
            (Some(key), None) => Some(Replace::Key(key)),
            (None, prefix) => prefix.map(Replace::Prefix),
        };
        let error = text(condition, "HttpErrorCodeReturnedEquals");
        let read = Self {
            prefix: text(condition, "KeyPrefixEquals"),
            error: number(error, "HttpErrorCodeReturnedEquals", &[4, 5])?,
            protocol: text(to, "Protocol")
                .as_deref()
                .map(Protocol::read)
                .transpose()?,
            host: text(to, "HostName"),
            status: number(text(to, "HttpRedirectCode"), "HttpRedirectCode", &[3])?,
            replace,
        };
        let says_nothing = read.protocol.is_none()
            && read.host.is_none()
            && read.replace.is_none()
            && read.status.is_none();
        let lacks_condition = condition.is_some() && read.prefix.is_none() && read.error.is_none();
        if says_nothing || lacks_condition {
            return Err(malformed(
                "a RoutingRule has an empty Condition or Redirect",
            ));
        }
        Ok(read)
    }

    fn write(&self, xml: &mut Writer) {
        if self.prefix.is_some() || self.error.is_some() {
            xml.nest("Condition", |xml| {
                xml.maybe("KeyPrefixEquals", self.prefix.as_ref());
                let error = self.error.map(|error| error.to_string());
                xml.maybe("HttpErrorCodeReturnedEquals", error);
            });
        }
        xml.nest("Redirect", |xml| {
            xml.maybe("Protocol", self.protocol.map(Protocol::as_str));
            xml.maybe("HostName", self.host.as_ref());
            match &self.replace {
                Some(Replace::Key(key)) => xml.text("ReplaceKeyWith", key),
                Some(Replace::Prefix(prefix)) => xml.text("ReplaceKeyPrefixWith", prefix),
                None => {}
            }
            let status = self.status.map(|status| status.to_string());
            xml.maybe("HttpRedirectCode", status);
        });
    }

    fn fits(&self, path: &str, error: Option<StatusCode>) -> bool {
        let error = error.map(|status| status.as_u16());
        let prefix = self.prefix.as_deref().unwrap_or_default();
        self.error == error && path.starts_with(prefix)
    }

    fn redirect(&self, visit: Visit<'_>) -> Redirect {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let path = match &self.replace {
            None => visit.path.to_owned(),
            Some(Replace::Key(key)) => key.clone(),
            Some(Replace::Prefix(new)) => {
                let rest = visit.path.strip_prefix(prefix).unwrap_or(visit.path);
                format!("{new}{rest}")
            }
        };
        let scheme = Protocol::chosen(self.protocol, visit);
        let host = self.host.as_deref().unwrap_or(visit.host);
        let status = self
            .status
            .and_then(|status| StatusCode::from_u16(status).ok());
        Redirect {
            status: status.unwrap_or(StatusCode::MOVED_PERMANENTLY),
            location: format!("{scheme}://{host}/{}", crate::query::encode_key(&path)),
        }
    }
}

impl Pages {
    fn write(&self, xml: &mut Writer) {
        xml.nest("IndexDocument", |xml| xml.text("Suffix", &self.index));
        if let Some(key) = &self.error {
            xml.nest("ErrorDocument", |xml| xml.text("Key", key));
        }
        if !self.rules.is_empty() {
            xml.nest("RoutingRules", |xml| {
                for rule in &self.rules {
                    xml.nest("RoutingRule", |xml| rule.write(xml));
                }
            });
        }
    }

    /// The key of a page: what names a folder means the folder's index.
    pub fn key_of(&self, path: &str) -> String {
        match path {
            "" => self.index.clone(),
            path if path.ends_with('/') => format!("{path}{}", self.index),
            path => path.to_owned(),
        }
    }

    /// The key of the index, if the path may be a folder whose name lacks its slash.
    pub fn index_below(&self, path: &str) -> Option<String> {
        let is_folder = path.is_empty() || path.ends_with('/');
        (!is_folder).then(|| format!("{path}/{}", self.index))
    }

    /// The object that is shown beside an error.
    pub fn error_page(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Where a visitor is sent: before anything is looked for, or when that had this error.
    pub fn redirect(&self, visit: Visit<'_>, error: Option<StatusCode>) -> Option<Redirect> {
        let rule = self.rules.iter().find(|rule| rule.fits(visit.path, error));
        rule.map(|rule| rule.redirect(visit))
    }
}

/// The page of an error for a browser.
pub fn write_error_page(error: &Error, request_id: &str) -> String {
    let status = error.code.status();
    let title = format!(
        "{} {}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    let code = format!("Code: {}", error.code.as_str());
    let message = format!("Message: {}", error.message);
    let request = format!("RequestId: {request_id}");
    Writer::html(|html| {
        html.nest("head", |html| html.text("title", &title));
        html.nest("body", |html| {
            html.text("h1", &title);
            html.nest("ul", |html| {
                html.text("li", code);
                html.text("li", message);
                for (name, value) in &error.details {
                    html.text("li", format!("{name}: {value}"));
                }
                html.text("li", request);
            });
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inside: &str) -> Result<Website> {
        let text = format!("<WebsiteConfiguration>{inside}</WebsiteConfiguration>");
        let website = Website::read(text.as_bytes())?;
        assert_eq!(Website::read(website.write().as_bytes()).unwrap(), website);
        Ok(website)
    }

    const INDEX: &str = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>";

    fn with_rules(rules: &str) -> Result<Website> {
        read(&format!("{INDEX}<RoutingRules>{rules}</RoutingRules>"))
    }

    fn visit(path: &str) -> Visit<'_> {
        Visit {
            secure: false,
            host: "site.s3-website.example.org:8779",
            path,
        }
    }

    #[test]
    fn folders_mean_their_index() {
        let site = read(&format!(
            "{INDEX}<ErrorDocument><Key>oops.html</Key></ErrorDocument>"
        ));
        let site = site.unwrap();
        let pages = site.pages().unwrap();
        assert_eq!(pages.key_of(""), "index.html");
        assert_eq!(pages.key_of("a/"), "a/index.html");
        assert_eq!(pages.key_of("a"), "a");
        assert_eq!(pages.index_below("a").as_deref(), Some("a/index.html"));
        assert_eq!(pages.index_below("a/"), None);
        assert_eq!(pages.error_page(), Some("oops.html"));
        assert_eq!(site.redirect_all(visit("a")), None);
    }

    #[test]
    fn all_visitors_are_sent_elsewhere() {
        let all = "<RedirectAllRequestsTo><HostName>example.com</HostName>\
                   <Protocol>https</Protocol></RedirectAllRequestsTo>";
        let redirect = read(all).unwrap().redirect_all(visit("a b/c")).unwrap();
        assert_eq!(redirect.location, "https://example.com/a%20b/c");
        assert_eq!(redirect.status, StatusCode::MOVED_PERMANENTLY);
    }

    /// The examples of the user guide.
    #[test]
    fn rules_send_by_prefix_and_by_error() {
        let by_prefix = with_rules(
            "<RoutingRule><Condition><KeyPrefixEquals>docs/</KeyPrefixEquals></Condition>\
             <Redirect><ReplaceKeyPrefixWith>documents/</ReplaceKeyPrefixWith></Redirect></RoutingRule>",
        )
        .unwrap();
        let pages = by_prefix.pages().unwrap();
        let sent = pages.redirect(visit("docs/a"), None).unwrap();
        assert_eq!(
            sent.location,
            "http://site.s3-website.example.org:8779/documents/a"
        );
        assert_eq!(pages.redirect(visit("other"), None), None);
        let not_found = Some(StatusCode::NOT_FOUND);
        assert_eq!(pages.redirect(visit("docs/a"), not_found), None);

        let by_error = with_rules(
            "<RoutingRule><Condition><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>\
             </Condition><Redirect><HostName>else.example.org</HostName><ReplaceKeyWith>lost</ReplaceKeyWith>\
             <HttpRedirectCode>307</HttpRedirectCode></Redirect></RoutingRule>",
        )
        .unwrap();
        let pages = by_error.pages().unwrap();
        assert_eq!(pages.redirect(visit("a"), None), None);
        let sent = pages.redirect(visit("a"), not_found).unwrap();
        assert_eq!(sent.location, "http://else.example.org/lost");
        assert_eq!(sent.status, StatusCode::TEMPORARY_REDIRECT);
    }

    #[test]
    fn a_website_that_makes_no_sense_is_refused() {
        let rule = |redirect: &str| {
            with_rules(&format!(
                "<RoutingRule><Redirect>{redirect}</Redirect></RoutingRule>"
            ))
        };
        for bad in [
            read(""),
            read("<IndexDocument><Suffix>a/b</Suffix></IndexDocument>"),
            read("<IndexDocument><Suffix/></IndexDocument>"),
            read(&format!(
                "{INDEX}<RedirectAllRequestsTo><HostName>a</HostName></RedirectAllRequestsTo>"
            )),
            read(
                "<RedirectAllRequestsTo><HostName>a</HostName><Protocol>ftp</Protocol></RedirectAllRequestsTo>",
            ),
            rule(""),
            rule("<HttpRedirectCode>200</HttpRedirectCode>"),
            rule("<HttpRedirectCode>300</HttpRedirectCode>"),
            rule(
                "<ReplaceKeyWith>a</ReplaceKeyWith><ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith>",
            ),
            with_rules(
                &"<RoutingRule><Redirect><HostName>a</HostName></Redirect></RoutingRule>"
                    .repeat(51),
            ),
        ] {
            assert!(bad.is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_page_shows_nothing_raw() {
        let error = Error::from(Code::NoSuchKey).with("Key", "<script>");
        let page = write_error_page(&error, "ID");
        assert!(page.starts_with("<!DOCTYPE html>\n<html>"), "{page}");
        assert!(page.contains("404 Not Found") && page.contains("Code: NoSuchKey"));
        assert!(page.contains("Key: &lt;script&gt;") && !page.contains("<script>"));
    }
}
