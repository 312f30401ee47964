//! Tags: of buckets, and of versions of objects.

use serde::{Deserialize, Serialize};

use crate::{
    Code, Error, Result,
    query::Query,
    xml::{Element, Writer},
};

/// Tags of one object (S3 user guide, "Categorizing your storage using tags").
pub const OBJECT_TAGS_MAX: usize = 10;
/// Tags of one bucket.
pub const BUCKET_TAGS_MAX: usize = 50;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

/// Names and values, by name; no name twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(Vec<(String, String)>);

impl Tags {
    fn checked(pairs: Vec<(String, String)>, tags_max: usize) -> Result<Self> {
        let invalid = |why: &str| Error::new(Code::InvalidTag, why.to_owned());
        if pairs.len() > tags_max {
            return Err(invalid("Object tags cannot be greater than the limit"));
        }
        for (at, (name, value)) in pairs.iter().enumerate() {
            if name.is_empty() || name.chars().count() > KEY_CHARS_MAX {
                return Err(invalid("The TagKey you have provided is invalid"));
            }
            if value.chars().count() > VALUE_CHARS_MAX {
                return Err(invalid("The TagValue you have provided is invalid"));
            }
            if pairs[..at].iter().any(|(other, _)| other == name) {
                return Err(invalid("Cannot provide multiple Tags with the same key"));
            }
        }
        let mut pairs = pairs;
        pairs.sort();
        Ok(Self(pairs))
    }

    /// Reads a Tagging document.
    pub fn read(body: &[u8], tags_max: usize) -> Result<Self> {
        let tagging = Element::read(body, "Tagging")?;
        Self::from_set(tagging.child("TagSet"), tags_max)
    }

    /// Reads the tags inside an element; none if it is absent.
    pub fn from_set(set: Option<&Element>, tags_max: usize) -> Result<Self> {
        let tags = set.into_iter().flat_map(|set| set.all("Tag"));
        let pairs = tags.map(tag).collect::<Result<_>>()?;
        Self::checked(pairs, tags_max)
    }

    /// Reads `x-amz-tagging`: an encoded query.
    pub fn parse(header: &str) -> Result<Self> {
        let invalid =
            |_| Error::invalid_argument("x-amz-tagging", header, "The header is no query");
        let query = Query::parse(header).map_err(invalid)?;
        let pairs = query.pairs().map(|(n, v)| (n.to_owned(), v.to_owned()));
        Self::checked(pairs.collect(), OBJECT_TAGS_MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them, as they came.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    /// Whether every tag of these is among ours.
    pub fn contain(&self, these: &Self) -> bool {
        these.0.iter().all(|tag| self.0.contains(tag))
    }

    /// The document.
    pub fn write(&self) -> String {
        Writer::document("Tagging", |xml| {
            xml.nest("TagSet", |xml| self.write_each(xml));
        })
    }

    /// Each tag as an element.
    pub fn write_each(&self, xml: &mut Writer) {
        for (name, value) in &self.0 {
            xml.nest("Tag", |xml| {
                xml.text("Key", name);
                xml.text("Value", value);
            });
        }
    }
}

/// One `Tag` element.
pub fn tag(element: &Element) -> Result<(String, String)> {
    let text = |name| element.required(name).map(str::to_owned);
    Ok((text("Key")?, text("Value")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_round_and_come_in_headers_too() {
        let tags = Tags::parse("a=1&b%20c=x%2By&d").unwrap();
        assert_eq!(
            tags.pairs().collect::<Vec<_>>(),
            [("a", "1"), ("b c", "x+y"), ("d", "")]
        );
        assert_eq!(Tags::read(tags.write().as_bytes(), 10).unwrap(), tags);
        assert!(tags.contain(&Tags::parse("a=1").unwrap()));
        assert!(!tags.contain(&Tags::parse("a=2").unwrap()));
    }

    #[test]
    fn too_many_too_long_and_the_same_twice_are_invalid() {
        let many = (0..11).map(|n| format!("k{n}=v")).collect::<Vec<_>>();
        for bad in [
            many.join("&"),
            "k".repeat(129),
            format!("k={}", "v".repeat(257)),
            "=v".to_owned(),
        ] {
            assert_eq!(
                Tags::parse(&bad).unwrap_err().code,
                Code::InvalidTag,
                "{bad}"
            );
        }
        let twice = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag>\
                     <Tag><Key>a</Key><Value>2</Value></Tag></TagSet></Tagging>";
        assert!(Tags::read(twice.as_bytes(), 50).is_err());
    }
}
