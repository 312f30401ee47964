//! Server access logging: where a bucket's log goes and what its objects are named.

use serde::{Deserialize, Serialize};

use crate::{
    BucketName, Error, Result,
    acl::{AclWish, GrantWish, Grantee, GranteeName, Permission},
    xml::{Element, Writer, malformed},
};

/// Grants in a list of `TargetGrants`, as in any list.
const GRANTS_MAX: usize = 100;
/// A prefix leaves room for what comes behind it in a key of 1,024 bytes.
const PREFIX_BYTES_MAX: usize = 800;

/// Where the log of a bucket goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// The bucket that it is written to.
    pub target: BucketName,
    /// What the keys of its objects begin with.
    pub prefix: String,
    /// Who may do what with its objects, besides their owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<TargetGrant>,
    /// What stands between prefix and name.
    #[serde(default)]
    pub format: KeyFormat,
}

/// One grant on the objects of a log, as its writer named the grantee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetGrant {
    /// A canonical id, or the URI of a group.
    pub to: String,
    /// What.
    pub permission: Permission,
}

/// How objects of a log are named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyFormat {
    /// `PREFIX YYYY-MM-DD-hh-mm-ss-UNIQUE`
    #[default]
    Simple,
    /// `PREFIX ACCOUNT/REGION/BUCKET/YYYY/MM/DD/YYYY-MM-DD-hh-mm-ss-UNIQUE`
    Partitioned(DateSource),
}

/// Which date a partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DateSource {
    /// That of the requests in it.
    EventTime,
    /// That of its delivery.
    DeliveryTime,
}

impl Logging {
    /// Reads a BucketLoggingStatus; none is no logging.
    pub fn read(body: &[u8]) -> Result<Option<Self>> {
        let status = Element::read(body, "BucketLoggingStatus")?;
        let Some(enabled) = status.child("LoggingEnabled") else {
            return Ok(None);
        };
        let target = BucketName::parse(enabled.required("TargetBucket")?.trim())?;
        let prefix = enabled.text_of("TargetPrefix").unwrap_or_default();
        if prefix.len() > PREFIX_BYTES_MAX {
            let why = "The target prefix is too long";
            return Err(Error::invalid_argument("TargetPrefix", prefix, why));
        }
        let grants = enabled.child("TargetGrants");
        let grants = grants.map(|grants| grants.all("Grant").map(read_grant).collect());
        let grants: Vec<_> = grants.transpose()?.unwrap_or_default();
        if grants.len() > GRANTS_MAX {
            return Err(malformed("there are more than 100 grants"));
        }
        Ok(Some(Self {
            target,
            prefix: prefix.to_owned(),
            grants,
            format: read_format(enabled)?,
        }))
    }

    /// The document; none is an empty one.
    pub fn write(logging: Option<&Self>) -> String {
        Writer::document("BucketLoggingStatus", |xml| {
            let Some(logging) = logging else {
                return;
            };
            xml.nest("LoggingEnabled", |xml| {
                xml.text("TargetBucket", logging.target.as_str());
                if !logging.grants.is_empty() {
                    xml.nest("TargetGrants", |xml| {
                        logging.grants.iter().for_each(|grant| grant.write(xml));
                    });
                }
                xml.text("TargetPrefix", &logging.prefix);
                xml.nest("TargetObjectKeyFormat", |xml| match logging.format {
                    KeyFormat::Simple => xml.nest("SimplePrefix", |_| {}),
                    KeyFormat::Partitioned(source) => xml.nest("PartitionedPrefix", |xml| {
                        xml.text("PartitionDateSource", source.as_str());
                    }),
                });
            });
        })
    }

    /// The grants, as a wish that people resolve.
    pub fn wish(&self) -> Result<AclWish> {
        let grants = self.grants.iter().map(TargetGrant::wish);
        Ok(AclWish::Explicit(grants.collect::<Result<_>>()?))
    }
}

impl DateSource {
    const ALL: [(Self, &str); 2] = [
        (Self::EventTime, "EventTime"),
        (Self::DeliveryTime, "DeliveryTime"),
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::EventTime => Self::ALL[0].1,
            Self::DeliveryTime => Self::ALL[1].1,
        }
    }
}

impl TargetGrant {
    fn is_group(&self) -> bool {
        self.to.contains("://")
    }

    fn wish(&self) -> Result<GrantWish> {
        let grantee = match self.is_group() {
            true => GranteeName::Group(Grantee::from_group_uri(&self.to)?),
            false => GranteeName::Id(self.to.clone()),
        };
        Ok(GrantWish {
            grantee,
            permission: self.permission,
        })
    }

    fn write(&self, xml: &mut Writer) {
        const XSI: &str = "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=";
        let (kind, name) = match self.is_group() {
            true => ("Group", "URI"),
            false => ("CanonicalUser", "ID"),
        };
        xml.nest("Grant", |xml| {
            xml.nest_with("Grantee", &format!("{XSI}\"{kind}\""), |xml| {
                xml.text(name, &self.to);
            });
            xml.text("Permission", self.permission.as_str());
        });
    }
}

fn read_grant(grant: &Element) -> Result<TargetGrant> {
    use Permission::{FullControl, Read, Write};
    let permission = Permission::parse(grant.required("Permission")?.trim());
    let permission = permission.filter(|word| [FullControl, Read, Write].contains(word));
    let permission = permission.ok_or_else(|| malformed("the Permission is unknown"))?;
    let grantee = grant.child("Grantee");
    let grantee = grantee.ok_or_else(|| malformed("a Grant has no Grantee"))?;
    let to = grantee.text_of("ID").or_else(|| grantee.text_of("URI"));
    let to = to.ok_or_else(|| malformed("a Grantee has neither ID nor URI"))?;
    let grant = TargetGrant {
        to: to.trim().to_owned(),
        permission,
    };
    grant.wish()?;
    Ok(grant)
}

fn read_format(enabled: &Element) -> Result<KeyFormat> {
    let Some(format) = enabled.child("TargetObjectKeyFormat") else {
        return Ok(KeyFormat::Simple);
    };
    match (
        format.child("SimplePrefix"),
        format.child("PartitionedPrefix"),
    ) {
        (Some(_), None) => Ok(KeyFormat::Simple),
        (None, Some(partitioned)) => {
            let word = partitioned.required("PartitionDateSource")?.trim();
            let known = DateSource::ALL.into_iter().find(|(_, name)| *name == word);
            let (source, _) = known
                .ok_or_else(|| malformed("PartitionDateSource is EventTime or DeliveryTime"))?;
            Ok(KeyFormat::Partitioned(source))
        }
        _ => Err(malformed(
            "TargetObjectKeyFormat has one of SimplePrefix and PartitionedPrefix",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn status(inside: &str) -> String {
        format!(
            "<BucketLoggingStatus><LoggingEnabled><TargetBucket>logs</TargetBucket>{inside}\
             </LoggingEnabled></BucketLoggingStatus>"
        )
    }

    #[test]
    fn every_shape_goes_round() {
        for inside in [
            "<TargetPrefix>a/</TargetPrefix>",
            "<TargetPrefix/><TargetObjectKeyFormat><SimplePrefix/></TargetObjectKeyFormat>",
            "<TargetPrefix>a</TargetPrefix><TargetObjectKeyFormat><PartitionedPrefix>\
             <PartitionDateSource>EventTime</PartitionDateSource></PartitionedPrefix>\
             </TargetObjectKeyFormat>",
            "<TargetGrants><Grant><Grantee><ID>c0ffee</ID></Grantee><Permission>READ</Permission>\
             </Grant><Grant><Grantee><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>\
             </Grantee><Permission>FULL_CONTROL</Permission></Grant></TargetGrants>",
        ] {
            let read = Logging::read(status(inside).as_bytes()).unwrap();
            let again = Logging::write(read.as_ref());
            assert_eq!(Logging::read(again.as_bytes()).unwrap(), read, "{inside}");
            assert_eq!(read.unwrap().target.as_str(), "logs");
        }
        assert_eq!(Logging::read(b"<BucketLoggingStatus/>").unwrap(), None);
        let none = Logging::write(None);
        assert_eq!(Logging::read(none.as_bytes()).unwrap(), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let long = format!("<TargetPrefix>{}</TargetPrefix>", "a".repeat(801));
        for (inside, code) in [
            ("<TargetObjectKeyFormat/>", Code::MalformedXML),
            (
                "<TargetGrants><Grant><Grantee/><Permission>READ</Permission></Grant></TargetGrants>",
                Code::MalformedXML,
            ),
            (
                "<TargetGrants><Grant><Grantee><ID>a</ID></Grantee><Permission>READ_ACP</Permission>\
                 </Grant></TargetGrants>",
                Code::MalformedXML,
            ),
            (
                "<TargetGrants><Grant><Grantee><URI>http://bob</URI></Grantee>\
                 <Permission>READ</Permission></Grant></TargetGrants>",
                Code::InvalidArgument,
            ),
            (&long, Code::InvalidArgument),
        ] {
            let error = Logging::read(status(inside).as_bytes()).unwrap_err();
            assert_eq!(error.code, code, "{inside}");
        }
    }
}
