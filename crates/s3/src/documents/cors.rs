//! Cross-origin rules: which pages of other sites may read a bucket.

use serde::{Deserialize, Serialize};

use crate::{
    Code, Error, Result,
    xml::{Element, Writer, malformed},
};

/// Rules of one bucket (PutBucketCors reference).
const RULES_MAX: usize = 100;
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "HEAD"];

/// The rules of a bucket, the first that fits is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cors(Vec<Rule>);

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    exposed: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_s: Option<u32>,
}

/// What a page's browser asks before or with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `Origin`.
    pub origin: String,
    /// `Access-Control-Request-Method`, or the method of the request itself.
    pub method: String,
    /// `Access-Control-Request-Headers`.
    pub headers: Vec<String>,
}

impl Cors {
    /// Reads a CORSConfiguration.
    pub fn read(body: &[u8]) -> Result<Self> {
        let configuration = Element::read(body, "CORSConfiguration")?;
        let rules: Vec<_> = configuration
            .all("CORSRule")
            .map(read_rule)
            .collect::<Result<_>>()?;
        if rules.is_empty() || rules.len() > RULES_MAX {
            return Err(malformed("there are no rules, or more than 100"));
        }
        Ok(Self(rules))
    }

    /// The document.
    pub fn write(&self) -> String {
        Writer::document("CORSConfiguration", |xml| {
            for rule in &self.0 {
                xml.nest("CORSRule", |xml| write_rule(xml, rule));
            }
        })
    }

    /// The headers of the answer, if a rule allows what is asked.
    pub fn answer(&self, asked: &Asked) -> Option<Vec<(&'static str, String)>> {
        let rule = self.0.iter().find(|rule| rule.allows(asked))?;
        let any = rule.origins.iter().any(|origin| origin == "*");
        let origin = if any { "*" } else { &asked.origin };
        let mut headers = vec![
            ("access-control-allow-origin", origin.to_owned()),
            ("access-control-allow-methods", rule.methods.join(", ")),
            (
                "vary",
                "Origin, Access-Control-Request-Headers, Access-Control-Request-Method".to_owned(),
            ),
        ];
        if !any {
            headers.push(("access-control-allow-credentials", "true".to_owned()));
        }
        if !asked.headers.is_empty() {
            headers.push(("access-control-allow-headers", asked.headers.join(", ")));
        }
        if !rule.exposed.is_empty() {
            headers.push(("access-control-expose-headers", rule.exposed.join(", ")));
        }
        if let Some(seconds) = rule.max_age_s {
            headers.push(("access-control-max-age", seconds.to_string()));
        }
        Some(headers)
    }
}

impl Rule {
    fn allows(&self, asked: &Asked) -> bool {
        let header = |name: &String| {
            let name = name.to_ascii_lowercase();
            self.headers
                .iter()
                .any(|allowed| fits(&allowed.to_ascii_lowercase(), &name))
        };
        self.origins
            .iter()
            .any(|origin| fits(origin, &asked.origin))
            && self.methods.contains(&asked.method)
            && asked.headers.iter().all(header)
    }
}

/// Whether a text fits a pattern with at most one star.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

fn read_rule(rule: &Element) -> Result<Rule> {
    let texts = |name| {
        rule.all(name)
            .map(|one| one.text.trim().to_owned())
            .collect()
    };
    let age = rule
        .text_of("MaxAgeSeconds")
        .map(|text| text.trim().parse());
    let read = Rule {
        id: rule.text_of("ID").map(str::to_owned),
        origins: texts("AllowedOrigin"),
        methods: texts("AllowedMethod"),
        headers: texts("AllowedHeader"),
        exposed: texts("ExposeHeader"),
        max_age_s: age
            .transpose()
            .map_err(|_| malformed("MaxAgeSeconds is no number"))?,
    };
    if read.origins.is_empty() || read.methods.is_empty() {
        return Err(malformed("a rule names no origin or no method"));
    }
    if let Some(method) = read
        .methods
        .iter()
        .find(|method| !METHODS.contains(&method.as_str()))
    {
        let why =
            format!("Found unsupported HTTP method in CORS config. Unsupported method is {method}");
        return Err(Error::new(Code::InvalidRequest, why));
    }
    let starred = read.origins.iter().chain(&read.headers);
    if let Some(text) = starred
        .into_iter()
        .find(|text| text.matches('*').count() > 1)
    {
        let why = format!("\"{text}\" can not have more than one wildcard.");
        return Err(Error::new(Code::InvalidRequest, why));
    }
    Ok(read)
}

fn write_rule(xml: &mut Writer, rule: &Rule) {
    xml.maybe("ID", rule.id.as_ref());
    let lists = [
        ("AllowedHeader", &rule.headers),
        ("AllowedMethod", &rule.methods),
        ("AllowedOrigin", &rule.origins),
        ("ExposeHeader", &rule.exposed),
    ];
    for (element, texts) in lists {
        texts.iter().for_each(|text| xml.text(element, text));
    }
    xml.maybe("MaxAgeSeconds", rule.max_age_s.map(|age| age.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors() -> Cors {
        Cors::read(
            b"<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod>\
              <AllowedOrigin>https://*.example</AllowedOrigin><AllowedHeader>x-*</AllowedHeader>\
              <ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>30</MaxAgeSeconds></CORSRule>\
              <CORSRule><AllowedMethod>PUT</AllowedMethod><AllowedOrigin>*</AllowedOrigin>\
              </CORSRule></CORSConfiguration>",
        )
        .unwrap()
    }

    fn asks(origin: &str, method: &str, headers: &[&str]) -> Option<String> {
        let asked = Asked {
            origin: origin.into(),
            method: method.into(),
            headers: headers.iter().map(|name| (*name).to_owned()).collect(),
        };
        cors().answer(&asked).map(|headers| headers[0].1.clone())
    }

    #[test]
    fn the_first_rule_that_fits_answers() {
        assert_eq!(
            asks("https://a.example", "GET", &["X-Y"]).unwrap(),
            "https://a.example"
        );
        assert_eq!(asks("https://a.example", "GET", &["other"]), None);
        assert_eq!(asks("https://example", "GET", &[]), None);
        assert_eq!(asks("anything", "PUT", &[]).unwrap(), "*");
        assert_eq!(asks("anything", "DELETE", &[]), None);
    }

    #[test]
    fn rules_go_round_and_bad_ones_are_refused() {
        assert_eq!(Cors::read(cors().write().as_bytes()).unwrap(), cors());
        let rule = |inside: &str| {
            let text =
                format!("<CORSConfiguration><CORSRule>{inside}</CORSRule></CORSConfiguration>");
            Cors::read(text.as_bytes()).unwrap_err().code
        };
        assert_eq!(
            rule("<AllowedMethod>GET</AllowedMethod>"),
            Code::MalformedXML
        );
        let origin = "<AllowedOrigin>*</AllowedOrigin>";
        assert_eq!(
            rule(&format!("{origin}<AllowedMethod>PATCH</AllowedMethod>")),
            Code::InvalidRequest
        );
        let stars = "<AllowedOrigin>*.*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>";
        assert_eq!(rule(stars), Code::InvalidRequest);
    }
}
