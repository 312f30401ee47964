//! Event notifications: which changes of a bucket's objects are told to whom.

use serde::{Deserialize, Serialize};

use crate::{
    Code, Error, Result,
    xml::{Element, Writer, malformed},
};

/// Configurations of one bucket (S3 user guide, "Amazon S3 Event Notifications").
const RULES_MAX: usize = 100;
const ID_CHARS_MAX: usize = 255;
/// A filter is a piece of a key.
const FILTER_BYTES_MAX: usize = 1024;
/// The word of a refusal that clients and people know.
const OVERLAP: &str = "Configurations overlap. Configurations on the same bucket cannot share a \
                       common event type.";

/// What happens here, by the names of S3.
const SERVED: [&str; 15] = [
    "s3:ObjectCreated:*",
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:Post",
    "s3:ObjectCreated:Copy",
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectRemoved:*",
    "s3:ObjectRemoved:Delete",
    "s3:ObjectRemoved:DeleteMarkerCreated",
    "s3:LifecycleExpiration:*",
    "s3:LifecycleExpiration:Delete",
    "s3:LifecycleExpiration:DeleteMarkerCreated",
    "s3:ObjectTagging:*",
    "s3:ObjectTagging:Put",
    "s3:ObjectTagging:Delete",
    "s3:ObjectAcl:Put",
];

/// What S3 knows and never happens here.
const UNSERVED: [&str; 4] = [
    "s3:ReducedRedundancyLostObject",
    "s3:ObjectRestore:",
    "s3:Replication:",
    "s3:LifecycleTransition",
];

/// All that a bucket tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Notifications(pub Vec<Rule>);

/// What is told to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub id: String,
    /// In which element its destination stood.
    pub kind: Kind,
    /// The destination, as its owner wrote it.
    pub arn: String,
    /// Which events, with their patterns: `s3:ObjectCreated:*`.
    pub events: Vec<String>,
    /// Only keys that begin so,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// and end so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
}

/// The elements that name destinations. Here they differ in nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `TopicConfiguration`
    Topic,
    /// `QueueConfiguration`
    Queue,
    /// `CloudFunctionConfiguration`
    Function,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Topic, Self::Queue, Self::Function];

    /// The configuration's element, and that of its ARN.
    const fn elements(self) -> (&'static str, &'static str) {
        match self {
            Self::Topic => ("TopicConfiguration", "Topic"),
            Self::Queue => ("QueueConfiguration", "Queue"),
            Self::Function => ("CloudFunctionConfiguration", "CloudFunction"),
        }
    }
}

impl Rule {
    /// The name of the destination: what stands last in its ARN.
    pub fn destination(&self) -> &str {
        self.arn.rsplit(':').next().unwrap_or_default()
    }

    /// Whether an event (`s3:ObjectCreated:Put`) of a key is told.
    pub fn tells(&self, event: &str, key: &str) -> bool {
        self.events.iter().any(|pattern| covers(pattern, event))
            && key.starts_with(self.prefix.as_deref().unwrap_or_default())
            && key.ends_with(self.suffix.as_deref().unwrap_or_default())
    }

    /// Whether one change of some key would be told by both.
    fn overlaps(&self, other: &Self) -> bool {
        let shares = |one: &String| {
            let mut others = other.events.iter();
            others.any(|two| covers(one, two) || covers(two, one))
        };
        let events = self.events.iter().any(shares);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (prefix, others) = (text(&self.prefix), text(&other.prefix));
        let prefixes = prefix.starts_with(&others) || others.starts_with(&prefix);
        let (suffix, others) = (text(&self.suffix), text(&other.suffix));
        let suffixes = suffix.ends_with(&others) || others.ends_with(&suffix);
        events && prefixes && suffixes
    }
}

fn covers(pattern: &str, event: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => event.starts_with(start),
        None => pattern == event,
    }
}

impl Notifications {
    /// Reads a NotificationConfiguration; an empty one tells nothing.
    pub fn read(body: &[u8]) -> Result<Self> {
        let configuration = Element::read(body, "NotificationConfiguration")?;
        if configuration.child("EventBridgeConfiguration").is_some() {
            return Err(Error::not_implemented("EventBridgeConfiguration"));
        }
        let mut rules: Vec<Rule> = Vec::new();
        for kind in Kind::ALL {
            for element in configuration.all(kind.elements().0) {
                rules.push(read_rule(element, kind, rules.len())?);
            }
        }
        if rules.len() > RULES_MAX {
            return Err(malformed("there are more than 100 configurations"));
        }
        for (at, rule) in rules.iter().enumerate() {
            if rules[..at].iter().any(|other| other.overlaps(rule)) {
                return Err(Error::new(Code::InvalidArgument, OVERLAP));
            }
            if rules[..at].iter().any(|other| other.id == rule.id) {
                let why = "Same ID used for multiple configurations. IDs must be unique";
                return Err(Error::invalid_argument("Id", &rule.id, why));
            }
        }
        Ok(Self(rules))
    }

    /// The document; none is an empty one.
    pub fn write(notifications: Option<&Self>) -> String {
        Writer::document("NotificationConfiguration", |xml| {
            for rule in notifications.into_iter().flat_map(|all| &all.0) {
                write_rule(xml, rule);
            }
        })
    }
}

fn read_rule(element: &Element, kind: Kind, at: usize) -> Result<Rule> {
    let id = element.text_of("Id").filter(|id| !id.is_empty());
    let id = id.map_or_else(|| format!("configuration-{}", at + 1), str::to_owned);
    if id.chars().count() > ID_CHARS_MAX {
        let why = "ID length should not exceed allowed limit of 255";
        return Err(Error::invalid_argument("Id", id, why));
    }
    let arn = element.required(kind.elements().1)?.trim();
    let events = element
        .all("Event")
        .map(|event| read_event(event.text.trim()));
    let events: Vec<String> = events.collect::<Result<_>>()?;
    if events.is_empty() {
        return Err(malformed("a configuration has no Event"));
    }
    let (prefix, suffix) = read_filter(element)?;
    if !arn.starts_with("arn:") || arn.split(':').count() < 6 {
        return Err(Error::invalid_argument(
            kind.elements().1,
            arn,
            "The ARN could not be parsed",
        ));
    }
    Ok(Rule {
        id,
        kind,
        arn: arn.to_owned(),
        events,
        prefix,
        suffix,
    })
}

fn read_event(name: &str) -> Result<String> {
    if SERVED.contains(&name) {
        return Ok(name.to_owned());
    }
    if name == "s3:IntelligentTiering" || UNSERVED.iter().any(|known| name.starts_with(known)) {
        return Err(Error::not_implemented(name));
    }
    let why = "A specified event is not supported for notifications.";
    Err(Error::invalid_argument("Event", name, why))
}

/// Prefix and suffix, each once at most.
fn read_filter(element: &Element) -> Result<(Option<String>, Option<String>)> {
    let (mut prefix, mut suffix) = (None, None);
    let keys = element
        .child("Filter")
        .and_then(|filter| filter.child("S3Key"));
    for rule in keys.into_iter().flat_map(|keys| keys.all("FilterRule")) {
        let name = rule.required("Name")?.trim();
        let value = rule.text_of("Value").unwrap_or_default();
        if value.len() > FILTER_BYTES_MAX {
            let why = "filter value is longer than 1024 bytes";
            return Err(Error::invalid_argument("FilterRule.Value", value, why));
        }
        let slot = match name.to_ascii_lowercase().as_str() {
            "prefix" => &mut prefix,
            "suffix" => &mut suffix,
            _ => {
                let why = "filter rule name must be either prefix or suffix";
                return Err(Error::invalid_argument("FilterRule.Name", name, why));
            }
        };
        if slot.replace(value.to_owned()).is_some() {
            let why = "Cannot specify more than one prefix rule or more than one suffix rule in a filter.";
            return Err(Error::invalid_argument("FilterRule.Name", name, why));
        }
    }
    Ok((prefix, suffix))
}

fn write_rule(xml: &mut Writer, rule: &Rule) {
    let (element, arn) = rule.kind.elements();
    xml.nest(element, |xml| {
        xml.text("Id", &rule.id);
        xml.text(arn, &rule.arn);
        for event in &rule.events {
            xml.text("Event", event);
        }
        let rules = [("prefix", &rule.prefix), ("suffix", &rule.suffix)];
        if rules.iter().all(|(_, value)| value.is_none()) {
            return;
        }
        xml.nest("Filter", |xml| {
            xml.nest("S3Key", |xml| {
                for (name, value) in rules {
                    let Some(value) = value else { continue };
                    xml.nest("FilterRule", |xml| {
                        xml.text("Name", name);
                        xml.text("Value", value);
                    });
                }
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, events: &[&str], filter: &str) -> String {
        let events: String = events
            .iter()
            .map(|event| format!("<Event>{event}</Event>"))
            .collect();
        format!(
            "<QueueConfiguration><Id>{id}</Id><Queue>arn:aws:sqs:mallee-1::hook</Queue>{events}\
             {filter}</QueueConfiguration>"
        )
    }

    fn filter(rules: &[(&str, &str)]) -> String {
        let rules = rules.iter().map(|(name, value)| {
            format!("<FilterRule><Name>{name}</Name><Value>{value}</Value></FilterRule>")
        });
        let rules: String = rules.collect();
        format!("<Filter><S3Key>{rules}</S3Key></Filter>")
    }

    fn read(inside: &str) -> Result<Notifications> {
        let text = format!("<NotificationConfiguration>{inside}</NotificationConfiguration>");
        Notifications::read(text.as_bytes())
    }

    const CREATED: &str = "s3:ObjectCreated:*";

    #[test]
    fn configurations_go_round_in_every_shape() {
        for inside in [
            rule("a", &[CREATED, "s3:ObjectRemoved:Delete"], ""),
            rule("", &[CREATED], &filter(&[("prefix", "a/"), ("suffix", ".png")])),
            rule("a", &[CREATED], &filter(&[("Suffix", "a&amp;b")])),
            "<TopicConfiguration><Topic>arn:aws:sns:mallee-1:1:t</Topic><Event>s3:ObjectAcl:Put</Event>\
             </TopicConfiguration><CloudFunctionConfiguration><CloudFunction>\
             arn:aws:lambda:mallee-1:1:function:f</CloudFunction><Event>s3:ObjectTagging:*</Event>\
             </CloudFunctionConfiguration>"
                .to_owned(),
            String::new(),
        ] {
            let read = read(&inside).unwrap();
            let again = Notifications::write(Some(&read));
            assert_eq!(Notifications::read(again.as_bytes()).unwrap(), read, "{inside}");
        }
        assert!(read("").unwrap().0.is_empty());
    }

    #[test]
    fn a_rule_tells_what_its_patterns_and_its_filter_say() {
        let rules = read(&rule(
            "a",
            &[CREATED, "s3:ObjectRemoved:Delete"],
            &filter(&[("prefix", "in/"), ("suffix", ".png")]),
        ));
        let rule = rules.unwrap().0.remove(0);
        assert_eq!(rule.destination(), "hook");
        for (event, key, tells) in [
            ("s3:ObjectCreated:Put", "in/a.png", true),
            ("s3:ObjectCreated:Copy", "in/.png", true),
            ("s3:ObjectRemoved:Delete", "in/a.png", true),
            ("s3:ObjectRemoved:DeleteMarkerCreated", "in/a.png", false),
            ("s3:ObjectCreated:Put", "out/a.png", false),
            ("s3:ObjectCreated:Put", "in/a.jpg", false),
        ] {
            assert_eq!(rule.tells(event, key), tells, "{event} {key}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_as_s3_does() {
        let twice = filter(&[("prefix", "a"), ("prefix", "b")]);
        for (inside, code) in [
            (rule("a", &[], ""), Code::MalformedXML),
            (rule("a", &["s3:ObjectEaten:*"], ""), Code::InvalidArgument),
            (rule("a", &["s3:Replication:*"], ""), Code::NotImplemented),
            (rule("a", &[CREATED], &filter(&[("middle", "a")])), Code::InvalidArgument),
            (rule("a", &[CREATED], &twice), Code::InvalidArgument),
            (rule(&"a".repeat(256), &[CREATED], ""), Code::InvalidArgument),
            (rule("a", &[CREATED], "") + &rule("b", &["s3:ObjectCreated:Put"], ""), Code::InvalidArgument),
            (
                rule("a", &[CREATED], "") + &rule("a", &["s3:ObjectRemoved:*"], ""),
                Code::InvalidArgument,
            ),
            (
                "<QueueConfiguration><Queue>hook</Queue><Event>s3:ObjectAcl:Put</Event></QueueConfiguration>".into(),
                Code::InvalidArgument,
            ),
            ("<EventBridgeConfiguration/>".to_owned(), Code::NotImplemented),
        ] {
            assert_eq!(read(&inside).unwrap_err().code, code, "{inside}");
        }
        // Apart by their filters they may share an event.
        let (one, two) = (filter(&[("prefix", "a")]), filter(&[("prefix", "b")]));
        assert!(read(&(rule("a", &[CREATED], &one) + &rule("b", &[CREATED], &two))).is_ok());
    }
}
