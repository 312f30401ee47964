//! DeleteObjects: a list of keys in, a list of outcomes out.

use crate::{
    Error, Key, Result, VersionId,
    conditions::{DeleteConditions, ETags, parse_date},
    request::MAX_PAGE,
    xml::{Element, Writer, malformed},
};

/// What DeleteObjects asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// Whether only failures are answered.
    pub quiet: bool,
    /// What to delete.
    pub objects: Vec<DeleteLine>,
}

/// One line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteLine {
    /// The key as it stood, or why it can't be one.
    pub key: Result<Key, (String, Error)>,
    /// The version; none means to delete as the bucket's versioning has it.
    pub version: Option<VersionId>,
    /// Whether it may be deleted.
    pub conditions: DeleteConditions,
}

impl DeleteLine {
    /// The key as it stood.
    pub fn name(&self) -> &str {
        match &self.key {
            Ok(key) => key.as_str(),
            Err((name, _)) => name,
        }
    }
}

impl Delete {
    /// Reads the document.
    pub fn read(body: &[u8]) -> Result<Self> {
        let delete = Element::read(body, "Delete")?;
        let objects: Vec<_> = delete.all("Object").map(line).collect::<Result<_>>()?;
        if objects.is_empty() || objects.len() > MAX_PAGE as usize {
            return Err(malformed("it names no object, or more than 1000"));
        }
        Ok(Self {
            quiet: delete.text_of("Quiet").map(str::trim) == Some("true"),
            objects,
        })
    }
}

fn line(object: &Element) -> Result<DeleteLine> {
    let key = object.required("Key")?;
    let version = object.text_of("VersionId").filter(|text| !text.is_empty());
    let number = |text: &str| {
        text.trim()
            .parse()
            .map_err(|_| malformed("Size is no number"))
    };
    Ok(DeleteLine {
        key: Key::parse(key).map_err(|error| (key.to_owned(), error)),
        version: version.map(VersionId::parse).transpose()?,
        conditions: DeleteConditions {
            if_match: object.text_of("ETag").map(ETags::parse),
            modified: object.text_of("LastModifiedTime").and_then(parse_date),
            size: object.text_of("Size").map(number).transpose()?,
        },
    })
}

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The key.
    pub key: String,
    /// The version that was named.
    pub version: Option<VersionId>,
    /// What was done, or why nothing was.
    pub result: Result<Deleted>,
}

/// What a delete did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The version that is gone or, without one named, the marker that was made.
    pub version: Option<VersionId>,
    /// Whether that version is a delete marker.
    pub is_marker: bool,
}

/// Answer of DeleteObjects.
pub fn write_outcomes(outcomes: &[Outcome], quiet: bool) -> String {
    Writer::document("DeleteResult", |xml| {
        for Outcome {
            key,
            version,
            result,
        } in outcomes
        {
            let version = version.as_ref().map(VersionId::as_str);
            match result {
                Ok(_) if quiet => {}
                Ok(deleted) => xml.nest("Deleted", |xml| {
                    xml.text("Key", key);
                    xml.maybe("VersionId", version);
                    if deleted.is_marker {
                        xml.plain("DeleteMarker", true);
                        let marker = deleted.version.as_ref().map(VersionId::as_str);
                        xml.maybe("DeleteMarkerVersionId", marker);
                    }
                }),
                Err(error) => xml.nest("Error", |xml| {
                    xml.text("Key", key);
                    xml.maybe("VersionId", version);
                    xml.text("Code", error.code.as_str());
                    xml.text("Message", &error.message);
                }),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn a_delete_is_read_with_its_oddities() {
        let body = "<Delete><Quiet>true</Quiet><Object><Key>a&amp;b\n</Key></Object>\
                    <Object><Key></Key><VersionId>null</VersionId></Object></Delete>";
        let delete = Delete::read(body.as_bytes()).unwrap();
        assert!(delete.quiet);
        assert_eq!(delete.objects[0].key.as_ref().unwrap().as_str(), "a&b\n");
        assert!(delete.objects[1].key.is_err());
    }

    #[test]
    fn none_and_more_than_a_thousand_are_refused() {
        assert!(Delete::read(b"<Delete/>").is_err());
        let many = format!(
            "<Delete>{}</Delete>",
            "<Object><Key>k</Key></Object>".repeat(1001)
        );
        assert_eq!(
            Delete::read(many.as_bytes()).unwrap_err().code,
            Code::MalformedXML
        );
    }
}
