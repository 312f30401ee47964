//! Documents of buckets: the account's list, the location, and what CreateBucket may say.

use types::Timestamp;

use crate::{
    Result,
    acl::Person,
    documents::access::write_owner,
    xml::{Element, Writer},
};

/// One bucket of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketLine {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
}

/// Answer of ListBuckets.
#[derive(Debug)]
pub struct BucketList<'a> {
    /// Whose they are.
    pub owner: &'a Person,
    /// The buckets, by name.
    pub buckets: &'a [BucketLine],
    /// How to go on, if there are more.
    pub token: Option<String>,
    /// The region of all of them.
    pub region: &'a str,
    /// Echoed, if it was asked for.
    pub prefix: &'a str,
}

impl BucketList<'_> {
    /// The document.
    pub fn write(&self) -> String {
        Writer::document("ListAllMyBucketsResult", |xml| {
            write_owner(xml, "Owner", self.owner);
            xml.nest("Buckets", |xml| {
                for bucket in self.buckets {
                    xml.nest("Bucket", |xml| {
                        xml.text("Name", &bucket.name);
                        xml.plain("CreationDate", bucket.created);
                        xml.text("BucketRegion", self.region);
                    });
                }
            });
            xml.maybe("ContinuationToken", self.token.as_ref());
            xml.maybe(
                "Prefix",
                Some(self.prefix).filter(|prefix| !prefix.is_empty()),
            );
        })
    }
}

/// Answer of GetBucketLocation.
pub fn write_location(location: &str) -> String {
    Writer::document("LocationConstraint", |xml| xml.raw_text(location))
}

/// The location that CreateBucket asks for; any is accepted, since there is only one place.
pub fn read_location(body: &[u8]) -> Result<Option<String>> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let configuration = Element::read(body, "CreateBucketConfiguration")?;
    let location = configuration.text_of("LocationConstraint").map(str::trim);
    Ok(location.filter(|text| !text.is_empty()).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_list_is_what_clients_read() {
        let owner = Person {
            id: "111111111111".into(),
            name: "alice".into(),
        };
        let buckets = [BucketLine {
            name: "photos".into(),
            created: Timestamp(0),
        }];
        let list = BucketList {
            owner: &owner,
            buckets: &buckets,
            token: None,
            region: "mallee-1",
            prefix: "",
        };
        let text = list.write();
        assert!(
            text.contains("<Owner><ID>111111111111</ID><DisplayName>alice</DisplayName></Owner>")
        );
        assert!(
            text.contains(
                "<Name>photos</Name><CreationDate>1970-01-01T00:00:00.000Z</CreationDate>"
            )
        );
    }

    #[test]
    fn any_location_may_be_asked_for() {
        let body = "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                    <LocationConstraint>EU</LocationConstraint></CreateBucketConfiguration>";
        assert_eq!(
            read_location(body.as_bytes()).unwrap().as_deref(),
            Some("EU")
        );
        assert_eq!(read_location(b" \n").unwrap(), None);
        assert!(read_location(b"<Nonsense/>").is_err());
    }
}
