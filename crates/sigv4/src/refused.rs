//! Why a request is refused. Which code and status a client sees is its service's affair; what
//! the answer should say (the string that was signed here, the clock) travels along.

/// A request whose signature does not stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A field that the signature cannot do without.
    #[error("the request must contain the parameter {0}")]
    Missing(&'static str),
    /// One of the fields that carry the signature, or any field of a version 2 request, came twice:
    /// the verifier and the handler could each read another one.
    #[error("the parameter {0} may appear only once")]
    Duplicated(String),
    /// The request carries two signatures.
    #[error("only one way of signing a request may be used")]
    TwoSignatures,
    /// The authorisation cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// A signature version or method that we do not speak.
    #[error("the signature method or version {0} is not supported")]
    Unsupported(String),
    /// The scope names a service other than this one.
    #[error("credential should be scoped to the right service, not {given}")]
    WrongService {
        /// What the scope says.
        given: String,
    },
    /// The date cannot be read.
    #[error("the date {0:?} is not in a valid form")]
    BadDate(String),
    /// The clocks differ by more than the service allows.
    #[error("the difference between the request time and the server's time is too large")]
    Skewed {
        /// What the request says, milliseconds since 1970.
        stamped_ms: i64,
        /// The server's clock, milliseconds since 1970.
        now_ms: i64,
        /// The difference that is allowed.
        window_ms: i64,
    },
    /// A presigned request after its end.
    #[error("request has expired")]
    Expired {
        /// When it ended, milliseconds since 1970.
        expired_ms: i64,
        /// The server's clock.
        now_ms: i64,
    },
    /// A presigned request that would live too long, or whose lifetime is no number.
    #[error("the lifetime of a presigned request must be between 1 and {max_secs} seconds")]
    BadExpires {
        /// The longest lifetime.
        max_secs: i64,
    },
    /// Headers that change the meaning of the request stand outside the signature.
    #[error("there were headers present in the request which were not signed: {0}")]
    Unsigned(String),
    /// The payload is not what was signed.
    #[error("the provided x-amz-content-sha256 does not match what was computed")]
    PayloadMismatch {
        /// What the header says.
        given: String,
        /// What arrived.
        computed: String,
    },
    /// `x-amz-content-sha256` is neither a digest nor a known word.
    #[error("x-amz-content-sha256 must be a valid payload hash, not {0:?}")]
    BadPayloadHash(String),
    /// The signature is not the one that the secret gives.
    #[error("the request signature we calculated does not match the signature you provided")]
    Mismatch(Box<Expected>),
}

/// What a right signature would have been made over. Shown to the sender, who knows it all but the
/// secret: the best help there is for whoever writes a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// The signature that came.
    pub signature: String,
    /// The string to sign, in the form that the documentation gives.
    pub string_to_sign: Vec<u8>,
    /// The canonical request behind it; version 4 only.
    pub canonical_request: Option<Vec<u8>>,
}
