//! From headers and parameters to a typed operation, a function per operation.

use http::request::Parts;

use super::{
    Complete, CopyObject, CreateBucket, CreateUpload, DeleteObject, GetAttributes, GetObject,
    ListBuckets, ListObjects, ListParts, ListUploads, ListVersion, ListVersions, MAX_BUCKET_PAGE,
    MAX_PAGE, MAX_PARTS, Operation, PartName, Place, PutObject, Request, Source, Whose,
    after_token, route,
};
use crate::{
    Action, BucketName, Code, Error, Qualifier, Result, VersionId,
    address::{self, Address, Domains, Located},
    copy_source::CopySource,
    documents::{attributes::Attribute, cors::Asked, ownership::Ownership},
    encryption::CustomerKey,
    headers::{Attributes, BodyClaims, ChecksumPlan, Headers},
    query::Query,
    range::ByteRange,
    settings::{Kind, Verb},
};

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

        Ok(Self {
            operation,
            action,
            body: ask.body_claims(action)?,
            whose: Whose {
                expected: ask.headers.text("x-amz-expected-bucket-owner"),
                qualifier: ask.qualifier,
            },
            resource: parts.uri.path().to_owned(),
            address: ask.address,
        })
    }
}

/// Whether a copy takes something over from its source.
enum Directive {
    Copy,
    Replace,
}

struct Ask<'a> {
    address: Address,
    qualifier: Option<Qualifier>,
    query: Query,
    headers: Headers<'a>,
}

impl<'a> Ask<'a> {
    fn new(parts: &'a Parts, domains: &Domains) -> Result<Self> {
        let headers = Headers(&parts.headers);
        let host = headers.text("host");
        let host = host.as_deref().or_else(|| parts.uri.host());
        let Located { address, qualifier } = address::locate(domains, host, parts.uri.path())?;
        Ok(Self {
            address,
            qualifier,
            query: Query::parse(parts.uri.query().unwrap_or_default())?,
            headers,
        })
    }

    fn operation(&self, action: Action) -> Result<Operation> {
        self.headers.refuse_unserved()?;
        match &self.address {
            Address::Account if action == Action::GetAccountUsage => self.account_usage(),
            Address::Account => Ok(Operation::ListBuckets(self.list_buckets()?)),
            Address::Bucket(bucket) => self.on_bucket(action, bucket.clone()),
            Address::Object(bucket, key) => {
                let at = Place {
                    bucket: bucket.clone(),
                    key: key.clone(),
                    version: self.version(action)?,
                };
                self.on_object(action, at)
            }
        }
    }

    fn on_bucket(&self, action: Action, bucket: BucketName) -> Result<Operation> {
        Ok(match action {
            Action::CreateBucket => Operation::CreateBucket {
                bucket,
                create: self.create_bucket()?,
            },
            Action::GetBucketPolicyStatus => Operation::GetBucketPolicyStatus { bucket },
            Action::PreflightCors => self.preflight(bucket)?,
            Action::PostObject => Operation::PostObject { bucket },
            Action::DeleteBucket => Operation::DeleteBucket { bucket },
            Action::HeadBucket => Operation::HeadBucket {
                bucket,
                read_stats: self.query.get_switch("read-stats")?,
            },
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
            Action::DeleteObjects => Operation::DeleteObjects {
                bucket,
                bypass_governance: self.headers.bypasses_governance(),
            },
            Action::ListMultipartUploads => Operation::ListMultipartUploads {
                bucket,
                list: self.list_uploads()?,
            },
            Action::ListObjectVersions => Operation::ListObjectVersions {
                bucket,
                list: self.list_versions()?,
            },
            other => match Kind::of(other) {
                Some((kind, Verb::Get)) => Operation::GetSetting { bucket, kind },
                Some((kind, Verb::Put)) => Operation::PutSetting { bucket, kind },
                Some((kind, Verb::Delete)) => Operation::DeleteSetting { bucket, kind },
                None => Operation::NotServed,
            },
        })
    }

    fn on_object(&self, action: Action, at: Place) -> Result<Operation> {
        let headers = self.headers;
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
            Action::DeleteObject => Operation::DeleteObject {
                at,
                delete: DeleteObject {
                    conditions: headers.delete_conditions()?,
                    bypass_governance: headers.bypasses_governance(),
                },
            },
            Action::PreflightCors => self.preflight(at.bucket)?,
            Action::GetObjectAttributes => Operation::GetObjectAttributes {
                at,
                get: self.get_attributes()?,
            },
            Action::GetObjectTagging => Operation::GetObjectTagging { at },
            Action::PutObjectTagging => Operation::PutObjectTagging { at },
            Action::DeleteObjectTagging => Operation::DeleteObjectTagging { at },
            Action::GetObjectRetention => Operation::GetObjectRetention { at },
            Action::PutObjectRetention => Operation::PutObjectRetention {
                at,
                bypass_governance: headers.bypasses_governance(),
            },
            Action::GetObjectLegalHold => Operation::GetObjectLegalHold { at },
            Action::PutObjectLegalHold => Operation::PutObjectLegalHold { at },
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

    /// What makes an object has no say in which version it is.
    fn version(&self, action: Action) -> Result<Option<VersionId>> {
        let version = self
            .query
            .get("versionId")
            .map(VersionId::parse)
            .transpose()?;
        match version {
            Some(version) if action.makes_object() => Err(Error::invalid_argument(
                "versionId",
                version.as_str(),
                "This operation does not accept a version-id.",
            )),
            version => Ok(version),
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

    /// What radosgw tells of an account. Requests are not counted by time here: whoever asks for
    /// some days of them is not to take our silence for "none".
    fn account_usage(&self) -> Result<Operation> {
        for span in ["start-date", "end-date"] {
            if self.query.has(span) {
                return Err(Error::not_implemented(span));
            }
        }
        Ok(Operation::GetAccountUsage)
    }

    /// A bucket is its maker's: there is nothing for an account before its name to say, and a bucket
    /// with a colon in its name there shall never be.
    fn create_bucket(&self) -> Result<CreateBucket> {
        if self.qualifier.is_some() {
            let why =
                "A bucket is created by its name alone, without an account and a colon before it.";
            return Err(Error::new(Code::InvalidBucketName, why));
        }
        let lock = self.headers.text("x-amz-bucket-object-lock-enabled");
        let ownership = self.headers.text("x-amz-object-ownership");
        Ok(CreateBucket {
            acl: self.headers.acl()?,
            ownership: ownership.as_deref().map(Ownership::parse).transpose()?,
            object_lock: lock.is_some_and(|text| text.eq_ignore_ascii_case("true")),
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
        let delimiter = self.query.get_text("delimiter").map(str::to_owned);
        // An ordered list is an unordered one, too: there is nothing else to do for it.
        if self.query.get_switch("allow-unordered")? && delimiter.is_some() {
            let why = "allow-unordered cannot be used together with a delimiter.";
            return Err(Error::invalid_argument("allow-unordered", "true", why));
        }
        Ok(ListObjects {
            prefix: self.text("prefix"),
            delimiter,
            max_keys: self.page("max-keys")?,
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
            max_uploads: self.page("max-uploads")?,
            encode: self.encode()?,
        })
    }

    fn list_versions(&self) -> Result<ListVersions> {
        let list = ListVersions {
            prefix: self.text("prefix"),
            delimiter: self.query.get_text("delimiter").map(str::to_owned),
            key_marker: self.text("key-marker"),
            version_marker: self.text("version-id-marker"),
            max_keys: self.page("max-keys")?,
            encode: self.encode()?,
        };
        if list.key_marker.is_empty() && !list.version_marker.is_empty() {
            return Err(Error::invalid_argument(
                "version-id-marker",
                list.version_marker,
                "A version-id marker cannot be specified without a key marker.",
            ));
        }
        Ok(list)
    }

    /// How much of a list is asked for.
    fn page(&self, name: &str) -> Result<u32> {
        let asked = self.query.get_number(name)?;
        Ok(asked.unwrap_or(MAX_PAGE).min(MAX_PAGE))
    }

    fn list_parts(&self) -> Result<ListParts> {
        Ok(ListParts {
            after: self.query.get_number("part-number-marker")?.unwrap_or(0),
            max_parts: self.page("max-parts")?,
        })
    }

    fn put_object(&self) -> Result<PutObject> {
        Ok(PutObject {
            attributes: Attributes::parse(self.headers)?,
            acl: self.headers.acl()?,
            conditions: self.headers.write_conditions(),
            tags: self.headers.tags()?,
            lock: self.headers.lock()?,
            encryption: self.headers.encryption(),
        })
    }

    fn source(&self) -> Result<Source> {
        let header = self.headers.text("x-amz-copy-source").unwrap_or_default();
        let from = CopySource::parse(&header)?;
        Ok(Source {
            whose: Whose {
                expected: self.headers.text("x-amz-source-expected-bucket-owner"),
                qualifier: from.qualifier.clone(),
            },
            from,
            conditions: self.headers.read_conditions("x-amz-copy-source-"),
            key: self
                .headers
                .customer_key("x-amz-copy-source-server-side-encryption-customer-")?,
        })
    }

    fn copy_object(&self) -> Result<CopyObject> {
        let attributes = Attributes::parse(self.headers)?;
        let storage_class = attributes.storage_class.clone();
        let replace = match self.directive("x-amz-metadata-directive")? {
            Directive::Copy => None,
            Directive::Replace => Some(attributes),
        };
        Ok(CopyObject {
            source: self.source()?,
            replace,
            storage_class,
            acl: self.headers.acl()?,
            conditions: self.headers.write_conditions(),
            tags: match self.directive("x-amz-tagging-directive")? {
                Directive::Copy => None,
                Directive::Replace => Some(self.headers.tags()?),
            },
            lock: self.headers.lock()?,
            encryption: self.headers.encryption(),
        })
    }

    fn directive(&self, name: &str) -> Result<Directive> {
        match self.headers.text(name).as_deref() {
            None | Some("COPY") => Ok(Directive::Copy),
            Some("REPLACE") => Ok(Directive::Replace),
            Some(other) => Err(Error::invalid_argument(name, other, "Unknown directive.")),
        }
    }

    /// What a browser asks before a request.
    fn preflight(&self, bucket: BucketName) -> Result<Operation> {
        let text = |name| self.headers.text(name).filter(|text| !text.is_empty());
        let missing = || {
            let why =
                "Insufficient information. Origin and Access-Control-Request-Method are needed.";
            Error::new(Code::BadRequest, why)
        };
        let headers = text("access-control-request-headers").unwrap_or_default();
        let headers = headers.split(',').map(|name| name.trim().to_owned());
        let asked = Asked {
            origin: text("origin").ok_or_else(missing)?,
            method: text("access-control-request-method").ok_or_else(missing)?,
            headers: headers.filter(|name| !name.is_empty()).collect(),
        };
        Ok(Operation::Preflight { bucket, asked })
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
            key: self.customer_key()?,
        })
    }

    fn get_attributes(&self) -> Result<GetAttributes> {
        let asked = self.headers.text("x-amz-object-attributes");
        let number = |name| -> Result<Option<u32>> {
            let number = self.headers.number(name)?;
            Ok(number.map(|number| u32::try_from(number).unwrap_or(u32::MAX)))
        };
        Ok(GetAttributes {
            attributes: Attribute::parse_all(asked.as_deref())?,
            after: number("x-amz-part-number-marker")?.unwrap_or(0),
            max_parts: number("x-amz-max-parts")?.unwrap_or(MAX_PAGE).min(MAX_PAGE),
            key: self.customer_key()?,
        })
    }

    fn create_upload(&self) -> Result<CreateUpload> {
        Ok(CreateUpload {
            attributes: Attributes::parse(self.headers)?,
            acl: self.headers.acl()?,
            checksum: ChecksumPlan::parse(self.headers)?,
            tags: self.headers.tags()?,
            lock: self.headers.lock()?,
            encryption: self.headers.encryption(),
        })
    }

    /// The key that comes with a request about something that is kept under one. Encryption by our
    /// own keys is no matter of reading.
    fn customer_key(&self) -> Result<Option<CustomerKey>> {
        if self.headers.text("x-amz-server-side-encryption").is_some() {
            let message =
                "x-amz-server-side-encryption header is not supported for this operation.";
            return Err(Error::invalid_argument(
                "x-amz-server-side-encryption",
                "",
                message,
            ));
        }
        self.headers
            .customer_key("x-amz-server-side-encryption-customer-")
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
            key: self.upload_key()?,
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
            key: self.upload_key()?,
        })
    }

    /// The key that an upload is kept under; what else clients say of its encryption is known.
    fn upload_key(&self) -> Result<Option<CustomerKey>> {
        self.headers
            .customer_key("x-amz-server-side-encryption-customer-")
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
