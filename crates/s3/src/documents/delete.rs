//! DeleteObjects: a list of keys in, a list of outcomes out.

use crate::{
    Code, Error, Key, Result,
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
    /// Only the null version exists.
    pub version_id: Option<String>,
    /// Delete only an object with this tag.
    pub etag: Option<String>,
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
    Ok(DeleteLine {
        key: Key::parse(key).map_err(|error| (key.to_owned(), error)),
        version_id: object.text_of("VersionId").map(str::to_owned),
        etag: object
            .text_of("ETag")
            .map(|tag| tag.trim_matches('"').to_owned()),
    })
}

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The key.
    pub key: String,
    /// Whether it is gone.
    pub result: Result<()>,
}

/// Answer of DeleteObjects.
pub fn write_outcomes(outcomes: &[Outcome], quiet: bool) -> String {
    Writer::document("DeleteResult", |xml| {
        for Outcome { key, result } in outcomes {
            match result {
                Ok(()) if quiet => {}
                Ok(()) => xml.nest("Deleted", |xml| xml.text("Key", key)),
                Err(error) => xml.nest("Error", |xml| {
                    xml.text("Key", key);
                    xml.text("Code", error.code.as_str());
                    xml.text("Message", &error.message);
                }),
            }
        }
    })
}

/// A key that can't be deleted since it is no version that there is.
pub fn no_such_version() -> Error {
    Code::NoSuchVersion.into()
}

#[cfg(test)]
mod tests {
    use super::*;

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
