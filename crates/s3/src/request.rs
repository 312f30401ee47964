//! The typed request. [`Request::parse`] reads method, host, path, query and headers once; after it
//! nobody looks at them again but the signature check. Bodies are read later, after authentication.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, request::Parts};

use crate::{
    Action, BucketName, Code, Error, Key, Result,
    acl::AclWish,
    address::{self, Address, Domains},
    checksum::Algorithm,
    conditions::{ReadConditions, WriteConditions},
    copy_source::CopySource,
    headers::{Attributes, BodyClaims, ChecksumPlan, Headers},
    query::Query,
    range::ByteRange,
};

/// Keys, parts, uploads or buckets in one page, whatever a client asks for.
pub const MAX_PAGE: u32 = 1000;
/// Buckets in one page of ListBuckets (API reference).
pub const MAX_BUCKET_PAGE: u32 = 10_000;
/// Parts of one upload.
pub const MAX_PARTS: u32 = 10_000;

/// One request: what is asked, of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it is about.
    pub address: Address,
    /// What is to be done.
    pub operation: Operation,
    /// The operation's row in the table, for policies, logs and metrics.
    pub action: Action,
    /// What is claimed about the body.
    pub body: BodyClaims,
    /// `x-amz-expected-bucket-owner`: refuse if the bucket is someone else's.
    pub expected_owner: Option<String>,
    /// The path and query as they came: the `Resource` of an error.
    pub resource: String,
}

/// An operation with everything that its headers and parameters say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the S3 API reference")]
pub enum Operation {
    ListBuckets(ListBuckets),

    CreateBucket {
        bucket: BucketName,
        acl: AclWish,
    },
    DeleteBucket {
        bucket: BucketName,
    },
    HeadBucket {
        bucket: BucketName,
    },
    GetBucketLocation {
        bucket: BucketName,
    },
    GetBucketAcl {
        bucket: BucketName,
    },
    PutBucketAcl {
        bucket: BucketName,
        acl: Option<AclWish>,
    },
    ListObjects {
        bucket: BucketName,
        list: ListObjects,
    },
    DeleteObjects {
        bucket: BucketName,
    },
    ListMultipartUploads {
        bucket: BucketName,
        list: ListUploads,
    },

    PutObject {
        at: Place,
        put: PutObject,
    },
    CopyObject {
        at: Place,
        copy: CopyObject,
    },
    GetObject {
        at: Place,
        get: GetObject,
    },
    HeadObject {
        at: Place,
        get: GetObject,
    },
    DeleteObject {
        at: Place,
        conditions: WriteConditions,
    },
    GetObjectAcl {
        at: Place,
    },
    PutObjectAcl {
        at: Place,
        acl: Option<AclWish>,
    },

    CreateMultipartUpload {
        at: Place,
        create: CreateUpload,
    },
    UploadPart {
        at: Place,
        part: PartName,
    },
    UploadPartCopy {
        at: Place,
        part: PartName,
        source: Source,
        range: Option<ByteRange>,
    },
    CompleteMultipartUpload {
        at: Place,
        upload_id: String,
        complete: Complete,
    },
    AbortMultipartUpload {
        at: Place,
        upload_id: String,
    },
    ListParts {
        at: Place,
        upload_id: String,
        list: ListParts,
    },

    /// Named in the table and refused.
    NotServed,
}

/// An object's place. Only the null version exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: Key,
}

/// Parameters of ListBuckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListBuckets {
    /// Only names that start so.
    pub prefix: String,
    /// Only names after this one.
    pub after: String,
    /// So many at most; `None` means all.
    pub max: Option<u32>,
}

/// Parameters of both ListObjects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListObjects {
    /// Only keys that start so.
    pub prefix: String,
    /// Roll up what follows this.
    pub delimiter: Option<String>,
    /// So many keys and prefixes at most.
    pub max_keys: u32,
    /// Whether keys are answered percent-encoded.
    pub encode: bool,
    /// What the two versions do differently.
    pub version: ListVersion,
}

/// How a list is continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListVersion {
    /// By the last key.
    V1 {
        /// List what comes after this.
        marker: String,
    },
    /// By a token.
    V2 {
        /// The token as it came, to be echoed.
        token: Option<String>,
        /// List what comes after this: what the token says, else `start_after`.
        after: String,
        /// Echoed.
        start_after: Option<String>,
        /// Whether owners are listed.
        fetch_owner: bool,
    },
}

impl ListObjects {
    /// List what comes after this.
    pub fn after(&self) -> &str {
        match &self.version {
            ListVersion::V1 { marker } => marker,
            ListVersion::V2 { after, .. } => after,
        }
    }
}

/// The opaque continuation of a version 2 list.
pub fn token_of(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

fn after_token(token: &str) -> Result<String> {
    let text = URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| {
        let message = "The continuation token provided is incorrect";
        Error::invalid_argument("continuation-token", token, message)
    })
}

/// Parameters of ListMultipartUploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListUploads {
    /// Only keys that start so.
    pub prefix: String,
    /// Roll up what follows this.
    pub delimiter: Option<String>,
    /// List what comes after this key,
    pub key_marker: String,
    /// and at this key after this upload.
    pub upload_id_marker: String,
    /// So many at most.
    pub max_uploads: u32,
    /// Whether keys are answered percent-encoded.
    pub encode: bool,
}

/// Parameters of ListParts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListParts {
    /// List parts after this number.
    pub after: u32,
    /// So many at most.
    pub max_parts: u32,
}

/// What a PUT says besides its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutObject {
    /// What is kept with the object.
    pub attributes: Attributes,
    /// Who may do what with it.
    pub acl: AclWish,
    /// Whether it may be written.
    pub conditions: WriteConditions,
}

/// A copy's source and when it may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where.
    pub from: CopySource,
    /// `x-amz-copy-source-if-…`.
    pub conditions: ReadConditions,
    /// `x-amz-source-expected-bucket-owner`.
    pub expected_owner: Option<String>,
}

/// Parameters of CopyObject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyObject {
    /// What to copy.
    pub source: Source,
    /// New attributes; `None` keeps the source's.
    pub replace: Option<Attributes>,
    /// A storage class that was asked for, if attributes are kept.
    pub storage_class: Option<String>,
    /// Who may do what with the copy.
    pub acl: AclWish,
    /// Whether it may be written.
    pub conditions: WriteConditions,
}

/// Parameters of GetObject and HeadObject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetObject {
    /// Which bytes.
    pub range: Option<ByteRange>,
    /// Which part of an object that was uploaded in parts.
    pub part_number: Option<u32>,
    /// When it may be sent.
    pub conditions: ReadConditions,
    /// `response-…`: header and value to answer instead of what is kept.
    pub overrides: Vec<(&'static str, String)>,
    /// Whether the checksum is answered.
    pub checksum_mode: bool,
}

/// Parameters of CreateMultipartUpload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateUpload {
    /// What will be kept with the object.
    pub attributes: Attributes,
    /// Who may do what with it.
    pub acl: AclWish,
    /// Which checksums its parts have.
    pub checksum: ChecksumPlan,
}

/// Parameters of CompleteMultipartUpload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Complete {
    /// Whether the object may be written.
    pub conditions: WriteConditions,
    /// The checksum that the whole object must have. Here the header does not speak of the body.
    pub checksum: Option<(Algorithm, String)>,
    /// The size that the whole object must have.
    pub size: Option<u64>,
}

/// One part of one upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartName {
    /// The upload.
    pub upload_id: String,
    /// 1 to 10,000.
    pub number: u32,
}

/// `response-…` parameters and the headers that they stand for.
const OVERRIDES: [(&str, &str); 6] = [
    ("response-content-type", "content-type"),
    ("response-content-language", "content-language"),
    ("response-expires", "expires"),
    ("response-cache-control", "cache-control"),
    ("response-content-disposition", "content-disposition"),
    ("response-content-encoding", "content-encoding"),
];

impl Request {
    /// Reads everything but the body.
    pub fn parse(parts: &Parts, domains: &Domains) -> Result<Self> {
        let ask = Ask::new(parts, domains)?;
        let action = route::action(&parts.method, &ask.address, &ask.query, ask.headers)?;
        let operation = if action.served() {
            ask.operation(action)?
        } else {
            Operation::NotServed
        };

        let owner = ask.headers.text("x-amz-expected-bucket-owner");
        Ok(Self {
            operation,
            action,
            body: ask.body_claims(action)?,
            expected_owner: owner,
            resource: parts.uri.path().to_owned(),
            address: ask.address,
        })
    }
}

struct Ask<'a> {
    address: Address,
    query: Query,
    headers: Headers<'a>,
}

impl<'a> Ask<'a> {
    fn new(parts: &'a Parts, domains: &Domains) -> Result<Self> {
        let headers = Headers(&parts.headers);
        let host = headers.text("host");
        let host = host.as_deref().or_else(|| parts.uri.host());
        Ok(Self {
            address: address::locate(domains, host, parts.uri.path())?,
            query: Query::parse(parts.uri.query().unwrap_or_default())?,
            headers,
        })
    }

    fn operation(&self, action: Action) -> Result<Operation> {
        self.headers.refuse_unserved()?;
        match &self.address {
            Address::Account => Ok(Operation::ListBuckets(self.list_buckets()?)),
            Address::Bucket(bucket) => self.on_bucket(action, bucket.clone()),
            Address::Object(bucket, key) => {
                self.only_null_version()?;
                self.on_object(
                    action,
                    Place {
                        bucket: bucket.clone(),
                        key: key.clone(),
                    },
                )
            }
        }
    }

    fn on_bucket(&self, action: Action, bucket: BucketName) -> Result<Operation> {
        Ok(match action {
            Action::CreateBucket => self.create_bucket(bucket)?,
            Action::DeleteBucket => Operation::DeleteBucket { bucket },
            Action::HeadBucket => Operation::HeadBucket { bucket },
            Action::GetBucketLocation => Operation::GetBucketLocation { bucket },
            Action::GetBucketAcl => Operation::GetBucketAcl { bucket },
            Action::PutBucketAcl => Operation::PutBucketAcl {
                bucket,
                acl: self.headers.acl()?,
            },
            Action::ListObjects | Action::ListObjectsV2 => Operation::ListObjects {
                bucket,
                list: self.list_objects(action)?,
            },
            Action::DeleteObjects => Operation::DeleteObjects { bucket },
            Action::ListMultipartUploads => Operation::ListMultipartUploads {
                bucket,
                list: self.list_uploads()?,
            },
            _ => Operation::NotServed,
        })
    }

    fn on_object(&self, action: Action, at: Place) -> Result<Operation> {
        let (headers, conditions) = (self.headers, self.headers.write_conditions());
        Ok(match action {
            Action::PutObject => Operation::PutObject {
                at,
                put: self.put_object()?,
            },
            Action::CopyObject => Operation::CopyObject {
                at,
                copy: self.copy_object()?,
            },
            Action::GetObject => Operation::GetObject {
                at,
                get: self.get_object()?,
            },
            Action::HeadObject => Operation::HeadObject {
                at,
                get: self.get_object()?,
            },
            Action::DeleteObject => Operation::DeleteObject { at, conditions },
            Action::GetObjectAcl => Operation::GetObjectAcl { at },
            Action::PutObjectAcl => Operation::PutObjectAcl {
                at,
                acl: headers.acl()?,
            },
            Action::CreateMultipartUpload => Operation::CreateMultipartUpload {
                at,
                create: self.create_upload()?,
            },
            Action::UploadPart => Operation::UploadPart {
                at,
                part: self.part_name()?,
            },
            Action::UploadPartCopy => self.upload_part_copy(at)?,
            Action::CompleteMultipartUpload => Operation::CompleteMultipartUpload {
                at,
                upload_id: self.upload_id(),
                complete: self.complete()?,
            },
            Action::AbortMultipartUpload => Operation::AbortMultipartUpload {
                at,
                upload_id: self.upload_id(),
            },
            Action::ListParts => Operation::ListParts {
                at,
                upload_id: self.upload_id(),
                list: self.list_parts()?,
            },
            _ => Operation::NotServed,
        })
    }

    /// No bucket has versions yet, so that `null` is the only one there can be.
    fn only_null_version(&self) -> Result<()> {
        match self.query.get("versionId") {
            None | Some("null") => Ok(()),
            Some("") => Err(Error::invalid_argument(
                "versionId",
                "",
                "Version id cannot be the empty string",
            )),
            Some(version) => Err(Error::from(Code::NoSuchVersion).with("VersionId", version)),
        }
    }

    fn list_buckets(&self) -> Result<ListBuckets> {
        let max = self.query.get_number("max-buckets")?;
        if max.is_some_and(|max| !(1..=MAX_BUCKET_PAGE).contains(&max)) {
            return Err(Error::invalid_argument(
                "max-buckets",
                self.query.get("max-buckets").unwrap_or_default(),
                "Argument max-buckets must be an integer between 1 and 10000",
            ));
        }
        let token = self
            .query
            .get_text("continuation-token")
            .map(after_token)
            .transpose()?;
        let prefix = self.query.get("prefix").unwrap_or_default().to_owned();
        Ok(ListBuckets {
            prefix,
            after: token.unwrap_or_default(),
            max,
        })
    }

    fn create_bucket(&self, bucket: BucketName) -> Result<Operation> {
        let lock = self.headers.text("x-amz-bucket-object-lock-enabled");
        if lock.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Err(Error::not_implemented("x-amz-bucket-object-lock-enabled"));
        }
        let ownership = self.headers.text("x-amz-object-ownership");
        if ownership.is_some_and(|text| text != "ObjectWriter") {
            return Err(Error::not_implemented("x-amz-object-ownership"));
        }
        Ok(Operation::CreateBucket {
            bucket,
            acl: self.headers.acl()?.unwrap_or_default(),
        })
    }

    fn encode(&self) -> Result<bool> {
        match self.query.get_text("encoding-type") {
            None => Ok(false),
            Some("url") => Ok(true),
            Some(other) => Err(Error::invalid_argument(
                "encoding-type",
                other,
                "Invalid Encoding Method specified in Request",
            )),
        }
    }

    fn text(&self, name: &str) -> String {
        self.query.get(name).unwrap_or_default().to_owned()
    }

    fn list_objects(&self, action: Action) -> Result<ListObjects> {
        let version = if action == Action::ListObjectsV2 {
            let token = self.query.get("continuation-token").map(str::to_owned);
            let start_after = self.query.get("start-after").map(str::to_owned);
            let after = token.as_deref().map(after_token).transpose()?;
            ListVersion::V2 {
                after: after.or_else(|| start_after.clone()).unwrap_or_default(),
                fetch_owner: self.query.get("fetch-owner") == Some("true"),
                token,
                start_after,
            }
        } else {
            ListVersion::V1 {
                marker: self.text("marker"),
            }
        };
        Ok(ListObjects {
            prefix: self.text("prefix"),
            delimiter: self.query.get_text("delimiter").map(str::to_owned),
            max_keys: self
                .query
                .get_number("max-keys")?
                .unwrap_or(MAX_PAGE)
                .min(MAX_PAGE),
            encode: self.encode()?,
            version,
        })
    }

    fn list_uploads(&self) -> Result<ListUploads> {
        Ok(ListUploads {
            prefix: self.text("prefix"),
            delimiter: self.query.get_text("delimiter").map(str::to_owned),
            key_marker: self.text("key-marker"),
            upload_id_marker: self.text("upload-id-marker"),
            max_uploads: self
                .query
                .get_number("max-uploads")?
                .unwrap_or(MAX_PAGE)
                .min(MAX_PAGE),
            encode: self.encode()?,
        })
    }

    fn list_parts(&self) -> Result<ListParts> {
        Ok(ListParts {
            after: self.query.get_number("part-number-marker")?.unwrap_or(0),
            max_parts: self
                .query
                .get_number("max-parts")?
                .unwrap_or(MAX_PAGE)
                .min(MAX_PAGE),
        })
    }

    fn put_object(&self) -> Result<PutObject> {
        Ok(PutObject {
            attributes: Attributes::parse(self.headers)?,
            acl: self.headers.acl()?.unwrap_or_default(),
            conditions: self.headers.write_conditions(),
        })
    }

    fn source(&self) -> Result<Source> {
        let header = self.headers.text("x-amz-copy-source").unwrap_or_default();
        let from = CopySource::parse(&header)?;
        if from
            .version_id
            .as_deref()
            .is_some_and(|version| version != "null")
        {
            return Err(Code::NoSuchVersion.into());
        }
        Ok(Source {
            from,
            conditions: self.headers.read_conditions("x-amz-copy-source-"),
            expected_owner: self.headers.text("x-amz-source-expected-bucket-owner"),
        })
    }

    fn copy_object(&self) -> Result<CopyObject> {
        let attributes = Attributes::parse(self.headers)?;
        let storage_class = attributes.storage_class.clone();
        let replace = match self.headers.text("x-amz-metadata-directive").as_deref() {
            None | Some("COPY") => None,
            Some("REPLACE") => Some(attributes),
            Some(other) => {
                return Err(Error::invalid_argument(
                    "x-amz-metadata-directive",
                    other,
                    "Unknown metadata directive.",
                ));
            }
        };
        Ok(CopyObject {
            source: self.source()?,
            replace,
            storage_class,
            acl: self.headers.acl()?.unwrap_or_default(),
            conditions: self.headers.write_conditions(),
        })
    }

    fn get_object(&self) -> Result<GetObject> {
        let overrides = OVERRIDES.into_iter().filter_map(|(parameter, header)| {
            self.query
                .get(parameter)
                .map(|value| (header, value.to_owned()))
        });
        let part_number = match self.query.get("partNumber") {
            Some(_) => Some(self.part_number()?),
            None => None,
        };
        let range = self
            .headers
            .text("range")
            .and_then(|text| ByteRange::parse(&text));
        if part_number.is_some() && range.is_some() {
            return Err(Error::new(
                Code::InvalidRequest,
                "Cannot specify both Range header and partNumber query parameter",
            ));
        }
        let mode = self.headers.text("x-amz-checksum-mode").unwrap_or_default();
        Ok(GetObject {
            range,
            part_number,
            conditions: self.headers.read_conditions(""),
            overrides: overrides.collect(),
            checksum_mode: mode.eq_ignore_ascii_case("ENABLED"),
        })
    }

    fn create_upload(&self) -> Result<CreateUpload> {
        Ok(CreateUpload {
            attributes: Attributes::parse(self.headers)?,
            acl: self.headers.acl()?.unwrap_or_default(),
            checksum: ChecksumPlan::parse(self.headers)?,
        })
    }

    fn body_claims(&self, action: Action) -> Result<BodyClaims> {
        let claims = BodyClaims::parse(self.headers)?;
        match action {
            Action::CompleteMultipartUpload => Ok(BodyClaims {
                checksum: None,
                ..claims
            }),
            _ => Ok(claims),
        }
    }

    fn complete(&self) -> Result<Complete> {
        Ok(Complete {
            conditions: self.headers.write_conditions(),
            checksum: BodyClaims::parse(self.headers)?.checksum,
            size: self.headers.number("x-amz-mp-object-size")?,
        })
    }

    fn upload_id(&self) -> String {
        self.text("uploadId")
    }

    fn part_number(&self) -> Result<u32> {
        let text = self.text("partNumber");
        let number = text
            .parse()
            .ok()
            .filter(|number| (1..=MAX_PARTS).contains(number));
        number.ok_or_else(|| {
            let message = "Part number must be an integer between 1 and 10000, inclusive";
            Error::invalid_argument("partNumber", text, message)
        })
    }

    fn part_name(&self) -> Result<PartName> {
        Ok(PartName {
            upload_id: self.upload_id(),
            number: self.part_number()?,
        })
    }

    fn upload_part_copy(&self, at: Place) -> Result<Operation> {
        let header = self.headers.text("x-amz-copy-source-range");
        let range = header.map(|text| match ByteRange::parse(&text) {
            Some(range @ ByteRange::From(_, Some(_))) => Ok(range),
            _ => Err(Error::invalid_argument(
                "x-amz-copy-source-range",
                text,
                "The x-amz-copy-source-range value must be of the form bytes=first-last where \
                 first and last are the zero-based offsets of the first and last bytes to copy",
            )),
        });
        let (part, source) = (self.part_name()?, self.source()?);
        Ok(Operation::UploadPartCopy {
            at,
            part,
            source,
            range: range.transpose()?,
        })
    }
}

mod route {
    //! Method, address and sub-resource → the row in the table.

    use super::{Action, Address, Code, Error, Headers, Method, Query, Result};

    /// Sub-resources of a bucket with the operations of GET, PUT and DELETE.
    type Row = (&'static str, Option<Action>, Option<Action>, Option<Action>);

    #[rustfmt::skip]
    const BUCKET: [Row; 23] = {
        use Action as A;
        [
            ("acl", Some(A::GetBucketAcl), Some(A::PutBucketAcl), None),
            ("location", Some(A::GetBucketLocation), None, None),
            ("uploads", Some(A::ListMultipartUploads), None, None),
            ("versions", Some(A::ListObjectVersions), None, None),
            ("versioning", Some(A::GetBucketVersioning), Some(A::PutBucketVersioning), None),
            ("policy", Some(A::GetBucketPolicy), Some(A::PutBucketPolicy), Some(A::DeleteBucketPolicy)),
            ("policyStatus", Some(A::GetBucketPolicyStatus), None, None),
            ("tagging", Some(A::GetBucketTagging), Some(A::PutBucketTagging), Some(A::DeleteBucketTagging)),
            ("cors", Some(A::GetBucketCors), Some(A::PutBucketCors), Some(A::DeleteBucketCors)),
            ("lifecycle", Some(A::GetBucketLifecycleConfiguration), Some(A::PutBucketLifecycleConfiguration), Some(A::DeleteBucketLifecycle)),
            ("logging", Some(A::GetBucketLogging), Some(A::PutBucketLogging), None),
            ("notification", Some(A::GetBucketNotificationConfiguration), Some(A::PutBucketNotificationConfiguration), None),
            ("requestPayment", Some(A::GetBucketRequestPayment), Some(A::PutBucketRequestPayment), None),
            ("website", Some(A::GetBucketWebsite), Some(A::PutBucketWebsite), Some(A::DeleteBucketWebsite)),
            ("encryption", Some(A::GetBucketEncryption), Some(A::PutBucketEncryption), Some(A::DeleteBucketEncryption)),
            ("ownershipControls", Some(A::GetBucketOwnershipControls), Some(A::PutBucketOwnershipControls), Some(A::DeleteBucketOwnershipControls)),
            ("publicAccessBlock", Some(A::GetPublicAccessBlock), Some(A::PutPublicAccessBlock), Some(A::DeletePublicAccessBlock)),
            ("object-lock", Some(A::GetObjectLockConfiguration), Some(A::PutObjectLockConfiguration), None),
            ("accelerate", Some(A::GetBucketAccelerateConfiguration), Some(A::PutBucketAccelerateConfiguration), None),
            ("replication", Some(A::GetBucketReplication), Some(A::PutBucketReplication), Some(A::DeleteBucketReplication)),
            ("analytics", Some(A::GetBucketAnalyticsConfiguration), Some(A::PutBucketAnalyticsConfiguration), Some(A::DeleteBucketAnalyticsConfiguration)),
            ("inventory", Some(A::GetBucketInventoryConfiguration), Some(A::PutBucketInventoryConfiguration), Some(A::DeleteBucketInventoryConfiguration)),
            ("metrics", Some(A::GetBucketMetricsConfiguration), Some(A::PutBucketMetricsConfiguration), Some(A::DeleteBucketMetricsConfiguration)),
        ]
    };

    #[rustfmt::skip]
    const OBJECT: [Row; 6] = {
        use Action as A;
        [
            ("acl", Some(A::GetObjectAcl), Some(A::PutObjectAcl), None),
            ("tagging", Some(A::GetObjectTagging), Some(A::PutObjectTagging), Some(A::DeleteObjectTagging)),
            ("retention", Some(A::GetObjectRetention), Some(A::PutObjectRetention), None),
            ("legal-hold", Some(A::GetObjectLegalHold), Some(A::PutObjectLegalHold), None),
            ("attributes", Some(A::GetObjectAttributes), None, None),
            ("torrent", Some(A::GetObjectTorrent), None, None),
        ]
    };

    pub(super) fn action(
        method: &Method,
        address: &Address,
        query: &Query,
        headers: Headers<'_>,
    ) -> Result<Action> {
        let found = match address {
            Address::Account => (method == Method::GET).then_some(Action::ListBuckets),
            Address::Bucket(_) => bucket(method, query),
            Address::Object(..) => object(method, query, headers),
        };
        found.ok_or_else(|| {
            Error::from(Code::MethodNotAllowed).with("Method", method.as_str().to_owned())
        })
    }

    /// `Some(None)` if a sub-resource is named that does not take the method.
    fn sub(rows: &[Row], method: &Method, query: &Query) -> Option<Option<Action>> {
        let (_, get, put, delete) = rows.iter().find(|(name, ..)| query.has(name))?;
        Some(match *method {
            Method::GET => *get,
            Method::PUT => *put,
            Method::DELETE => *delete,
            _ => None,
        })
    }

    fn bucket(method: &Method, query: &Query) -> Option<Action> {
        if let Some(found) = sub(&BUCKET, method, query) {
            return found;
        }
        match *method {
            Method::GET if query.get("list-type") == Some("2") => Some(Action::ListObjectsV2),
            Method::GET if query.has("intelligent-tiering") => {
                Some(Action::GetBucketIntelligentTieringConfiguration)
            }
            Method::PUT if query.has("intelligent-tiering") => {
                Some(Action::PutBucketIntelligentTieringConfiguration)
            }
            Method::DELETE if query.has("intelligent-tiering") => {
                Some(Action::DeleteBucketIntelligentTieringConfiguration)
            }
            Method::GET => Some(Action::ListObjects),
            Method::PUT => Some(Action::CreateBucket),
            Method::DELETE => Some(Action::DeleteBucket),
            Method::HEAD => Some(Action::HeadBucket),
            Method::POST if query.has("delete") => Some(Action::DeleteObjects),
            Method::POST => Some(Action::PostObject),
            Method::OPTIONS => Some(Action::PreflightCors),
            _ => None,
        }
    }

    fn object(method: &Method, query: &Query, headers: Headers<'_>) -> Option<Action> {
        if let Some(found) = sub(&OBJECT, method, query) {
            return found;
        }
        let (upload, copy) = (
            query.has("uploadId"),
            headers.0.contains_key("x-amz-copy-source"),
        );
        match *method {
            Method::PUT if upload && copy => Some(Action::UploadPartCopy),
            Method::PUT if upload => Some(Action::UploadPart),
            Method::PUT if copy => Some(Action::CopyObject),
            Method::PUT => Some(Action::PutObject),
            Method::GET if upload => Some(Action::ListParts),
            Method::GET => Some(Action::GetObject),
            Method::HEAD => Some(Action::HeadObject),
            Method::DELETE if upload => Some(Action::AbortMultipartUpload),
            Method::DELETE => Some(Action::DeleteObject),
            Method::POST if query.has("uploads") => Some(Action::CreateMultipartUpload),
            Method::POST if upload => Some(Action::CompleteMultipartUpload),
            Method::POST if query.has("restore") => Some(Action::RestoreObject),
            Method::POST if query.has("select") => Some(Action::SelectObjectContent),
            Method::OPTIONS => Some(Action::PreflightCors),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Request> {
        let mut builder = http::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        Request::parse(&parts, &Domains::default())
    }

    fn check(method: &str, target: &str, expect: Action) {
        assert_eq!(
            parse(method, target, &[]).unwrap().action,
            expect,
            "{method} {target}"
        );
    }

    #[test]
    fn requests_find_their_operation() {
        check("GET", "/", Action::ListBuckets);
        check("GET", "/bucket?max-keys=0", Action::ListObjects);
        check(
            "GET",
            "/bucket/?list-type=2&prefix=a",
            Action::ListObjectsV2,
        );
        check("GET", "/bucket/?location", Action::GetBucketLocation);
        check("POST", "/bucket?delete", Action::DeleteObjects);
        check("GET", "/bucket?policy", Action::GetBucketPolicy);
        check("PUT", "/bucket/key", Action::PutObject);
        check(
            "PUT",
            "/bucket/key?partNumber=1&uploadId=x",
            Action::UploadPart,
        );
        check("GET", "/bucket/key?tagging", Action::GetObjectTagging);
        check("POST", "/bucket/key?uploads", Action::CreateMultipartUpload);
        check(
            "HEAD",
            "/services/objectstorage/bucket/key",
            Action::HeadObject,
        );
    }

    #[test]
    fn a_method_that_a_thing_does_not_take_is_named() {
        for (method, target) in [
            ("POST", "/"),
            ("PATCH", "/bucket/key"),
            ("DELETE", "/bucket?acl"),
        ] {
            let error = parse(method, target, &[]).unwrap_err();
            assert_eq!(error.code, Code::MethodNotAllowed, "{method} {target}");
        }
    }

    #[test]
    fn pages_are_limited_and_tokens_go_round() {
        let Operation::ListObjects { list, .. } =
            parse("GET", "/bucket?max-keys=99999&delimiter=", &[])
                .unwrap()
                .operation
        else {
            panic!("it is a list");
        };
        assert_eq!((list.max_keys, list.delimiter), (1000, None));

        let target = format!(
            "/bucket?list-type=2&start-after=z&continuation-token={}",
            token_of("a/é")
        );
        let Operation::ListObjects { list, .. } = parse("GET", &target, &[]).unwrap().operation
        else {
            panic!("it is a list");
        };
        assert_eq!(list.after(), "a/é");
        assert!(parse("GET", "/bucket?list-type=2&continuation-token=%21", &[]).is_err());
    }

    #[test]
    fn part_numbers_have_their_range() {
        for bad in ["0", "10001", "x", ""] {
            let target = format!("/bucket/key?uploadId=u&partNumber={bad}");
            assert_eq!(
                parse("PUT", &target, &[]).unwrap_err().code,
                Code::InvalidArgument
            );
        }
    }

    #[test]
    fn only_the_null_version_exists() {
        assert!(parse("GET", "/bucket/key?versionId=null", &[]).is_ok());
        let error = parse("GET", "/bucket/key?versionId=abc", &[]).unwrap_err();
        assert_eq!(error.code, Code::NoSuchVersion);
    }

    proptest::proptest! {
        #[test]
        fn no_request_panics(target in "/[ -~]{0,60}", source in "[ -~]{0,30}", method in "GET|PUT|POST") {
            if target.parse::<http::Uri>().is_ok() {
                let _ = parse(&method, &target, &[("x-amz-copy-source", &source), ("range", &source)]);
            }
        }
    }
}
