//! Lifecycle rules: what a bucket deletes by itself, and when. Transitions between storage classes
//! are kept as they were said; a class is a label here, and nothing moves.

use serde::{Deserialize, Serialize};
use types::Timestamp;

use crate::{
    Code, Error, Result,
    conditions::parse_date,
    documents::tagging::{OBJECT_TAGS_MAX, Tags},
    xml::{Element, Writer, malformed},
};

/// Rules of one bucket (PutBucketLifecycleConfiguration reference).
const RULES_MAX: usize = 1000;
const ID_CHARS_MAX: usize = 255;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The rules of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lifecycle(pub Vec<Rule>);

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Its name, ours if none was given.
    pub id: String,
    /// Whether it is followed.
    pub is_enabled: bool,
    /// Which objects it is about.
    pub filter: Filter,
    /// When the newest version goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration: Option<Expiration>,
    /// When older versions go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noncurrent: Option<Noncurrent>,
    /// After how many days an unfinished upload is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort_days: Option<u32>,
    /// What was said of storage classes: kept and given back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<Transition>,
}

/// Which objects a rule is about. All that is said must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// How it was written, to be given back so.
    pub shape: Shape,
    /// Only keys that start so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Only objects with these tags.
    #[serde(skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// Only objects larger than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub larger_than: Option<u64>,
    /// Only objects smaller than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smaller_than: Option<u64>,
}

/// How a filter is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A prefix beside the rule's other elements, as it was before 2016.
    #[default]
    Plain,
    /// A `Filter` with one condition or none.
    Single,
    /// A `Filter` with an `And`.
    And,
}

/// When the newest version goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expiration {
    /// So many days after it was written.
    Days(u32),
    /// On a day.
    Date(Timestamp),
    /// A delete marker goes when it is the only version left.
    LoneMarker(bool),
}

/// When older versions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noncurrent {
    /// So many days after they became old.
    pub days: u32,
    /// How many of the newest old ones stay all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// A change of storage class that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Whether it is about older versions.
    #[serde(default)]
    pub is_noncurrent: bool,
    /// After so many days,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// or on a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<Timestamp>,
    /// How many of the newest old ones stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// To which class.
    pub class: String,
}

impl Filter {
    /// Whether an object is meant.
    pub fn holds(&self, key: &str, tags: &Tags, size: u64) -> bool {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        key.starts_with(prefix)
            && tags.contain(&self.tags)
            && self.larger_than.is_none_or(|limit| size > limit)
            && self.smaller_than.is_none_or(|limit| size < limit)
    }
}

/// When something that was written then is so many days old: at the next midnight, as S3 has it.
pub fn midnight_after(written: Timestamp, days: u32) -> Timestamp {
    let due = written.as_millis() + i64::from(days) * DAY_MS;
    Timestamp((due + DAY_MS - 1).div_euclid(DAY_MS) * DAY_MS)
}

impl Lifecycle {
    /// Reads a LifecycleConfiguration; rules without a name are given one.
    pub fn read(body: &[u8]) -> Result<Self> {
        let configuration = Element::read(body, "LifecycleConfiguration")?;
        let rules = configuration.all("Rule").enumerate();
        let rules: Vec<_> = rules
            .map(|(at, rule)| read_rule(rule, at))
            .collect::<Result<_>>()?;
        if rules.is_empty() || rules.len() > RULES_MAX {
            return Err(malformed("there are no rules, or more than 1000"));
        }
        let twice = (1..rules.len()).find(|at| rules[..*at].iter().any(|r| r.id == rules[*at].id));
        if let Some(at) = twice {
            let message = "Rule ID must be unique. Found same ID for more than one rule";
            return Err(Error::invalid_argument("ID", &rules[at].id, message));
        }
        Ok(Self(rules))
    }

    /// The document.
    pub fn write(&self) -> String {
        Writer::document("LifecycleConfiguration", |xml| {
            for rule in &self.0 {
                xml.nest("Rule", |xml| write_rule(xml, rule));
            }
        })
    }

    /// When the newest version of such an object goes, and by which rule.
    pub fn expiry(
        &self,
        key: &str,
        tags: &Tags,
        size: u64,
        written: Timestamp,
    ) -> Option<(Timestamp, &str)> {
        let rules = self.0.iter().filter(|rule| rule.is_enabled);
        let fitting = rules.filter(|rule| rule.filter.holds(key, tags, size));
        let dated = fitting.filter_map(|rule| match rule.expiration? {
            Expiration::Days(days) => Some((midnight_after(written, days), rule.id.as_str())),
            Expiration::Date(date) => Some((date, rule.id.as_str())),
            Expiration::LoneMarker(_) => None,
        });
        dated.min_by_key(|(when, _)| *when)
    }
}

fn number(element: &Element, name: &str) -> Result<Option<u32>> {
    let text = element.text_of(name).map(str::trim);
    let number = text.map(|text| {
        let number = text
            .parse()
            .map_err(|_| malformed(&format!("{name} is no number")));
        number.and_then(|number: u32| match number {
            0 => Err(Error::invalid_argument(
                name,
                text,
                format!("'{name}' for Expiration action must be a positive integer"),
            )),
            number => Ok(number),
        })
    });
    number.transpose()
}

/// A day, which must begin at midnight.
fn date(element: &Element) -> Result<Option<Timestamp>> {
    let Some(text) = element.text_of("Date").map(str::trim) else {
        return Ok(None);
    };
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    let date = parse_date(&full).ok_or_else(|| malformed("Date is no date"))?;
    if date.as_millis() % DAY_MS != 0 {
        let message = "'Date' must be at midnight GMT";
        return Err(Error::invalid_argument("Date", text, message));
    }
    Ok(Some(date))
}

fn read_rule(rule: &Element, at: usize) -> Result<Rule> {
    let id = rule.text_of("ID").filter(|id| !id.is_empty());
    let id = id.map_or_else(|| format!("rule-{}", at + 1), str::to_owned);
    if id.chars().count() > ID_CHARS_MAX {
        let message = "ID length should not exceed allowed limit of 255";
        return Err(Error::invalid_argument("ID", id, message));
    }
    let is_enabled = match rule.required("Status")?.trim() {
        "Enabled" => true,
        "Disabled" => false,
        _ => return Err(malformed("Status is Enabled or Disabled")),
    };
    let noncurrent = rule.child("NoncurrentVersionExpiration");
    let abort = rule.child("AbortIncompleteMultipartUpload");
    let read = Rule {
        id,
        is_enabled,
        filter: read_filter(rule)?,
        expiration: rule.child("Expiration").map(read_expiration).transpose()?,
        noncurrent: noncurrent.map(read_noncurrent).transpose()?,
        abort_days: abort
            .map(|abort| {
                number(abort, "DaysAfterInitiation")?.ok_or_else(|| malformed("there are no days"))
            })
            .transpose()?,
        transitions: read_transitions(rule)?,
    };
    let acts = read.expiration.is_some()
        || read.noncurrent.is_some()
        || read.abort_days.is_some()
        || !read.transitions.is_empty();
    if !acts {
        let why = "At least one action needs to be specified in a rule";
        return Err(Error::new(Code::InvalidRequest, why));
    }
    if read.abort_days.is_some() && !read.filter.tags.is_empty() {
        let why = "AbortIncompleteMultipartUpload cannot be specified with Tags.";
        return Err(Error::new(Code::InvalidRequest, why));
    }
    Ok(read)
}

fn read_filter(rule: &Element) -> Result<Filter> {
    let prefix = rule.text_of("Prefix").map(str::to_owned);
    let Some(filter) = rule.child("Filter") else {
        return Ok(Filter {
            shape: Shape::Plain,
            prefix,
            ..Filter::default()
        });
    };
    if prefix.is_some() {
        return Err(malformed("a rule has either Prefix or Filter"));
    }
    let (shape, inner) = match filter.child("And") {
        Some(and) => (Shape::And, and),
        // Several conditions that lack their And can mean nothing else.
        None if filter.children.len() > 1 => (Shape::And, filter),
        None => (Shape::Single, filter),
    };
    let size = |name| {
        let text = inner.text_of(name).map(|text| text.trim().parse());
        text.transpose()
            .map_err(|_| malformed(&format!("{name} is no number")))
    };
    Ok(Filter {
        shape,
        prefix: inner.text_of("Prefix").map(str::to_owned),
        tags: Tags::from_set(Some(inner), OBJECT_TAGS_MAX)?,
        larger_than: size("ObjectSizeGreaterThan")?,
        smaller_than: size("ObjectSizeLessThan")?,
    })
}

fn read_expiration(expiration: &Element) -> Result<Expiration> {
    let marker = expiration
        .text_of("ExpiredObjectDeleteMarker")
        .map(str::trim);
    match (number(expiration, "Days")?, date(expiration)?, marker) {
        (Some(days), None, None) => Ok(Expiration::Days(days)),
        (None, Some(date), None) => Ok(Expiration::Date(date)),
        (None, None, Some(text)) => Ok(Expiration::LoneMarker(text == "true")),
        _ => Err(malformed(
            "an Expiration has one of Days, Date and ExpiredObjectDeleteMarker",
        )),
    }
}

fn read_noncurrent(noncurrent: &Element) -> Result<Noncurrent> {
    let days = number(noncurrent, "NoncurrentDays")?;
    let keep = number(noncurrent, "NewerNoncurrentVersions")?;
    let days = days.ok_or_else(|| malformed("there are no NoncurrentDays"))?;
    Ok(Noncurrent { days, keep })
}

fn read_transitions(rule: &Element) -> Result<Vec<Transition>> {
    let read = |element: &Element, is_noncurrent: bool| -> Result<Transition> {
        let days = if is_noncurrent {
            "NoncurrentDays"
        } else {
            "Days"
        };
        // Unlike an expiration, a transition may be due at once.
        let number = |name| {
            let text = element.text_of(name).map(|text| text.trim().parse());
            text.transpose()
                .map_err(|_| malformed(&format!("{name} is no number")))
        };
        Ok(Transition {
            is_noncurrent,
            days: number(days)?,
            date: date(element)?,
            keep: number("NewerNoncurrentVersions")?,
            class: element.required("StorageClass")?.trim().to_owned(),
        })
    };
    let current = rule.all("Transition").map(|one| read(one, false));
    let noncurrent = rule
        .all("NoncurrentVersionTransition")
        .map(|one| read(one, true));
    current.chain(noncurrent).collect()
}

fn write_rule(xml: &mut Writer, rule: &Rule) {
    xml.text("ID", &rule.id);
    write_filter(xml, &rule.filter);
    xml.text(
        "Status",
        if rule.is_enabled {
            "Enabled"
        } else {
            "Disabled"
        },
    );
    if let Some(expiration) = rule.expiration {
        xml.nest("Expiration", |xml| match expiration {
            Expiration::Days(days) => xml.plain("Days", days),
            Expiration::Date(date) => xml.plain("Date", date),
            Expiration::LoneMarker(goes) => xml.plain("ExpiredObjectDeleteMarker", goes),
        });
    }
    for transition in &rule.transitions {
        write_transition(xml, transition);
    }
    if let Some(noncurrent) = rule.noncurrent {
        xml.nest("NoncurrentVersionExpiration", |xml| {
            xml.plain("NoncurrentDays", noncurrent.days);
            xml.maybe(
                "NewerNoncurrentVersions",
                noncurrent.keep.map(|keep| keep.to_string()),
            );
        });
    }
    if let Some(days) = rule.abort_days {
        xml.nest("AbortIncompleteMultipartUpload", |xml| {
            xml.plain("DaysAfterInitiation", days);
        });
    }
}

fn write_filter(xml: &mut Writer, filter: &Filter) {
    let inner = |xml: &mut Writer| {
        xml.maybe("Prefix", filter.prefix.as_ref());
        filter.tags.write_each(xml);
        xml.maybe(
            "ObjectSizeGreaterThan",
            filter.larger_than.map(|size| size.to_string()),
        );
        xml.maybe(
            "ObjectSizeLessThan",
            filter.smaller_than.map(|size| size.to_string()),
        );
    };
    match filter.shape {
        Shape::Plain => inner(xml),
        Shape::Single => xml.nest("Filter", inner),
        Shape::And => xml.nest("Filter", |xml| xml.nest("And", inner)),
    }
}

fn write_transition(xml: &mut Writer, transition: &Transition) {
    let (element, days) = if transition.is_noncurrent {
        ("NoncurrentVersionTransition", "NoncurrentDays")
    } else {
        ("Transition", "Days")
    };
    xml.nest(element, |xml| {
        xml.maybe(days, transition.days.map(|days| days.to_string()));
        xml.maybe("Date", transition.date.map(|date| date.to_string()));
        xml.maybe(
            "NewerNoncurrentVersions",
            transition.keep.map(|keep| keep.to_string()),
        );
        xml.text("StorageClass", &transition.class);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rules: &str) -> Result<Lifecycle> {
        let text = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
        Lifecycle::read(text.as_bytes())
    }

    #[test]
    fn rules_go_round_in_every_shape() {
        for inside in [
            "<Prefix>a/</Prefix><Expiration><Days>3</Days></Expiration>",
            "<Filter/><Expiration><Date>2030-01-01</Date></Expiration>",
            "<Filter><And><Prefix>a</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>\
             <ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter>\
             <NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays>\
             <NewerNoncurrentVersions>5</NewerNoncurrentVersions></NoncurrentVersionExpiration>",
            "<Filter/><AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation>\
             </AbortIncompleteMultipartUpload><Transition><Days>0</Days>\
             <StorageClass>STANDARD_IA</StorageClass></Transition>",
        ] {
            let rules = read(&format!("<Rule><Status>Enabled</Status>{inside}</Rule>")).unwrap();
            assert_eq!(
                Lifecycle::read(rules.write().as_bytes()).unwrap(),
                rules,
                "{inside}"
            );
            assert_eq!(rules.0[0].id, "rule-1");
        }
    }

    #[test]
    fn conditions_without_their_and_must_all_hold() {
        let conditions = "<Prefix>a</Prefix><ObjectSizeGreaterThan>9</ObjectSizeGreaterThan>";
        let filter = |inside: &str| {
            let days = "<Expiration><Days>1</Days></Expiration>";
            let rule =
                format!("<Rule><Status>Enabled</Status><Filter>{inside}</Filter>{days}</Rule>");
            read(&rule).unwrap().0.remove(0).filter
        };
        let bare = filter(conditions);
        assert_eq!(bare, filter(&format!("<And>{conditions}</And>")));
        assert!(bare.holds("ab", &Tags::default(), 10) && !bare.holds("ab", &Tags::default(), 9));
    }

    #[test]
    fn bad_rules_are_refused_as_s3_does() {
        let days = "<Filter/><Expiration><Days>1</Days></Expiration>";
        let named = |id: &str| format!("<Rule><ID>{id}</ID><Status>Enabled</Status>{days}</Rule>");
        for (bad, code) in [
            (format!("<Rule><Status>enabled</Status>{days}</Rule>"), Code::MalformedXML),
            (named("a") + &named("a"), Code::InvalidArgument),
            (named(&"a".repeat(256)), Code::InvalidArgument),
            ("<Rule><Status>Enabled</Status><Filter/></Rule>".into(), Code::InvalidRequest),
            (
                "<Rule><Status>Enabled</Status><Filter/><Expiration><Days>0</Days></Expiration></Rule>".into(),
                Code::InvalidArgument,
            ),
            (
                "<Rule><Status>Enabled</Status><Expiration><Date>20200101</Date></Expiration></Rule>".into(),
                Code::MalformedXML,
            ),
            (String::new(), Code::MalformedXML),
        ] {
            assert_eq!(read(&bad).unwrap_err().code, code, "{bad}");
        }
    }

    #[test]
    fn an_object_goes_at_the_midnight_after_its_days() {
        let rules = "<Rule><ID>r</ID><Status>Enabled</Status><Prefix>a</Prefix>\
                     <Expiration><Days>1</Days></Expiration></Rule>";
        let rules = read(rules).unwrap();
        let expiry = |key| rules.expiry(key, &Tags::default(), 1, Timestamp(1));
        assert_eq!(expiry("ab"), Some((Timestamp(2 * DAY_MS), "r")));
        assert_eq!(expiry("b"), None);
    }
}
