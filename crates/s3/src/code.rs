//! Every error code that Walrus answers, with its HTTP status and the sentence it has when nobody
//! says anything better. Codes and statuses are those of the S3 API reference's "Error responses".

use http::StatusCode;

/// The code's name, or the text that cannot be one.
macro_rules! text {
    ($name:ident) => {
        stringify!($name)
    };
    ($name:ident $text:literal) => {
        $text
    };
}

macro_rules! codes {
    ($($name:ident $(= $text:literal)? $status:literal $message:literal;)*) => {
        /// An S3 error code. Clients branch on the name, so it is exact.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the message beside each code says what it means")]
        pub enum Code { $($name),* }

        impl Code {
            /// The code as it stands in the error document.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => text!($name $($text)?)),* }
            }

            /// What a person reads if the place that failed had nothing better to say.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message),* }
            }

            const fn status_number(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }
        }
    };
}

codes! {
    AccessControlListNotSupported 400 "The bucket does not allow ACLs";
    AccessDenied 403 "Access Denied";
    AccessForbidden 403 "CORSResponse: This CORS request is not allowed.";
    AuthorizationHeaderMalformed 400 "The authorization header is malformed.";
    AuthorizationQueryParametersError 400 "The authorization parameters in the query are malformed.";
    BadDigest 400 "The Content-MD5 or checksum that you sent does not match what we received.";
    BadRequest 400 "The request could not be understood.";
    BucketAlreadyExists 409 "The requested bucket name is not available. Buckets share one namespace; choose another name.";
    BucketAlreadyOwnedByYou 409 "The bucket that you tried to create already exists, and you own it.";
    BucketNotEmpty 409 "The bucket that you tried to delete is not empty.";
    ConditionalRequestConflict 409 "A conflicting operation happened during this one. Try again.";
    EntityTooLarge 400 "Your proposed upload exceeds the maximum allowed size.";
    EntityTooSmall 400 "Your proposed upload is smaller than the minimum allowed size.";
    ExpiredToken 400 "The provided token has expired.";
    IllegalLocationConstraintException 400 "The location constraint is not valid.";
    IncorrectNumberOfFilesInPostRequest 400 "POST requires exactly one file upload per request.";
    IncompleteBody 400 "You did not provide the number of bytes that the Content-Length header says.";
    InsufficientStorage 507 "The object store has no room for this object. Delete something, or ask the administrator.";
    InternalError 500 "We met an internal error. The request id names it in the log.";
    InvalidAccessKeyId 403 "The access key id that you provided does not exist in our records.";
    InvalidBucketAclWithObjectOwnership 400 "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting";
    InvalidArgument 400 "Invalid argument.";
    InvalidBucketState 409 "The request is not valid for the current state of the bucket.";
    InvalidBucketName 400 "The specified bucket is not valid.";
    InvalidDigest 400 "The Content-MD5 or checksum value that you specified is not valid.";
    InvalidEncryptionAlgorithmError 400 "The encryption request that you specified is not valid. The valid value is AES256.";
    InvalidPart 400 "One or more of the specified parts could not be found, or its entity tag did not match.";
    InvalidPartNumber 416 "The requested partnumber is not satisfiable";
    InvalidPartOrder 400 "The list of parts was not in ascending order.";
    InvalidPolicyDocument 400 "The content of the form does not meet the conditions specified in the policy document.";
    InvalidRange 416 "The requested range is not satisfiable";
    InvalidRedirectLocation 400 "The website redirect location is not valid.";
    InvalidRequest 400 "The request is not valid.";
    InvalidRetentionPeriod 400 "The retention period is not valid.";
    InvalidSecurity 403 "The provided security credentials are not valid.";
    InvalidTag 400 "The tag that you provided is not valid.";
    InvalidTargetBucketForLogging 400 "The target bucket for logging does not exist, or is not one of yours.";
    InvalidToken 400 "The provided token is malformed or otherwise invalid.";
    InvalidURI 400 "Couldn't parse the specified URI.";
    KeyTooLongError 400 "Your key is too long.";
    KmsNotFound = "KMS.NotFoundException" 400 "This store has no KMS key of that name.";
    MalformedACLError 400 "The XML that you provided was not well-formed or did not validate against our published schema.";
    MalformedPOSTRequest 400 "The body of your POST request is not well-formed multipart/form-data.";
    MalformedPolicy 400 "The policy is not valid.";
    MalformedXML 400 "The XML that you provided was not well-formed or did not validate against our published schema.";
    MaxMessageLengthExceeded 400 "Your request was too big.";
    MaxPostPreDataLengthExceededError 400 "Your POST request fields preceding the upload file were too large.";
    MetadataTooLarge 400 "Your metadata headers exceed the maximum allowed metadata size.";
    MethodNotAllowed 405 "The specified method is not allowed against this resource.";
    MissingContentLength 411 "You must provide the Content-Length HTTP header.";
    MissingSecurityHeader 400 "Your request is missing a required header.";
    NoSuchBucket 404 "The specified bucket does not exist.";
    NoSuchBucketPolicy 404 "The bucket policy does not exist";
    NoSuchCORSConfiguration 404 "The CORS configuration does not exist";
    NoSuchKey 404 "The specified key does not exist.";
    NoSuchLifecycleConfiguration 404 "The lifecycle configuration does not exist";
    NoSuchObjectLockConfiguration 404 "The specified object does not have a ObjectLock configuration";
    NoSuchPublicAccessBlockConfiguration 404 "The public access block configuration was not found";
    NoSuchTagSet 404 "The TagSet does not exist";
    NoSuchUpload 404 "The specified multipart upload does not exist. It may have been aborted or completed.";
    NoSuchVersion 404 "The specified version does not exist.";
    NoSuchWebsiteConfiguration 404 "The specified bucket does not have a website configuration";
    NotImplemented 501 "A header or operation that you asked for is not implemented.";
    NotModified 304 "Not Modified";
    ObjectLockConfigurationNotFoundError 404 "Object Lock configuration does not exist for this bucket";
    OwnershipControlsNotFoundError 404 "The bucket ownership controls were not found";
    PreconditionFailed 412 "At least one of the pre-conditions that you specified did not hold";
    QuotaExceeded 403 "The quota is exceeded. Delete something, or ask the administrator for more.";
    RequestTimeTooSkewed 403 "The difference between the request time and the server's time is too large.";
    RequestTimeout 400 "Your socket connection to the server was not read from or written to within the timeout period.";
    ServerSideEncryptionConfigurationNotFoundError 404 "The server side encryption configuration was not found";
    ServiceUnavailable 503 "Walrus is not ready. Try again.";
    SignatureDoesNotMatch 403 "The request signature that we calculated does not match the signature that you provided. Check your secret key and signing method.";
    SlowDown 503 "Please reduce your request rate.";
    TooManyBuckets 400 "You have attempted to create more buckets than allowed.";
    UnresolvableGrantByEmailAddress 400 "The e-mail address that you provided does not match any account on record.";
    UnsupportedSignature 400 "The provided request is signed with an unsupported signing method.";
    XAmzContentSHA256Mismatch 400 "The provided 'x-amz-content-sha256' header does not match what was computed.";
}

impl Code {
    /// The HTTP status that goes with the code.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.status_number()).expect("the table holds three-digit statuses")
    }
}
