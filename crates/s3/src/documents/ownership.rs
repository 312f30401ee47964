//! Who owns what others write into a bucket, and what is never public whatever lists and policies
//! say.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    xml::{Element, Writer, malformed},
};

/// Who owns new objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ownership {
    /// The bucket's owner; access lists say nothing any more.
    BucketOwnerEnforced,
    /// The bucket's owner, if the writer grants it everything.
    BucketOwnerPreferred,
    /// Whoever writes them.
    ObjectWriter,
}

impl Ownership {
    const ALL: [(Self, &'static str); 3] = [
        (Self::BucketOwnerEnforced, "BucketOwnerEnforced"),
        (Self::BucketOwnerPreferred, "BucketOwnerPreferred"),
        (Self::ObjectWriter, "ObjectWriter"),
    ];

    /// Reads the word of `x-amz-object-ownership`.
    pub fn parse(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|(_, word)| *word == text);
        known.map(|(known, _)| known).ok_or_else(|| {
            let message = "Invalid x-amz-object-ownership header";
            Error::invalid_argument("x-amz-object-ownership", text, message)
        })
    }

    /// Reads OwnershipControls.
    pub fn read(body: &[u8]) -> Result<Self> {
        let controls = Element::read(body, "OwnershipControls")?;
        let mut rules = controls.all("Rule");
        match (rules.next(), rules.next()) {
            (Some(rule), None) => Self::parse(rule.required("ObjectOwnership")?.trim())
                .map_err(|_| malformed("ObjectOwnership is unknown")),
            _ => Err(malformed("there is not one rule")),
        }
    }

    /// The document.
    pub fn write(self) -> String {
        let row = Self::ALL.iter().find(|(known, _)| *known == self);
        let (_, word) = row.expect("the table has every kind");
        Writer::document("OwnershipControls", |xml| {
            xml.nest("Rule", |xml| xml.text("ObjectOwnership", word));
        })
    }
}

/// What is never public.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublicAccessBlock {
    /// Public access lists are refused.
    pub block_acls: bool,
    /// Those that are there count for nothing.
    pub ignore_acls: bool,
    /// Public policies are refused.
    pub block_policy: bool,
    /// The policy that is there, if it is public, counts for the owner's account alone.
    pub restrict_buckets: bool,
}

impl PublicAccessBlock {
    /// Reads a PublicAccessBlockConfiguration.
    pub fn read(body: &[u8]) -> Result<Self> {
        let configuration = Element::read(body, "PublicAccessBlockConfiguration")?;
        let flag = |name| match configuration.text_of(name).map(str::trim) {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(malformed(&format!("{name} is true or false"))),
        };
        Ok(Self {
            block_acls: flag("BlockPublicAcls")?,
            ignore_acls: flag("IgnorePublicAcls")?,
            block_policy: flag("BlockPublicPolicy")?,
            restrict_buckets: flag("RestrictPublicBuckets")?,
        })
    }

    /// The document.
    pub fn write(self) -> String {
        Writer::document("PublicAccessBlockConfiguration", |xml| {
            xml.plain("BlockPublicAcls", self.block_acls);
            xml.plain("IgnorePublicAcls", self.ignore_acls);
            xml.plain("BlockPublicPolicy", self.block_policy);
            xml.plain("RestrictPublicBuckets", self.restrict_buckets);
        })
    }
}

/// Answer of GetBucketPolicyStatus.
pub fn write_policy_status(is_public: bool) -> String {
    Writer::document("PolicyStatus", |xml| xml.plain("IsPublic", is_public))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_go_round() {
        for (kind, _) in Ownership::ALL {
            assert_eq!(Ownership::read(kind.write().as_bytes()).unwrap(), kind);
        }
        let block = PublicAccessBlock {
            block_acls: true,
            restrict_buckets: true,
            ..PublicAccessBlock::default()
        };
        assert_eq!(
            PublicAccessBlock::read(block.write().as_bytes()).unwrap(),
            block
        );
    }

    #[test]
    fn what_is_unknown_is_refused() {
        assert!(Ownership::read(b"<OwnershipControls/>").is_err());
        assert!(Ownership::parse("Nobody").is_err());
        let text = b"<PublicAccessBlockConfiguration><BlockPublicAcls>maybe</BlockPublicAcls>\
                     </PublicAccessBlockConfiguration>";
        assert!(PublicAccessBlock::read(text).is_err());
    }
}
