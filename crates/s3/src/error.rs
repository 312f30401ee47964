//! An S3 error: a code, a sentence, and the extra elements that some codes carry. It is made at the
//! place that knows what is wrong, and written as a document at the very edge.

use std::borrow::Cow;

use crate::Code;

/// What went wrong, in S3's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Error {
    /// The code that clients branch on.
    pub code: Code,
    /// A sentence for a person.
    pub message: Cow<'static, str>,
    /// Further elements of the document, such as `StringToSign` or `ServerTime`, in order.
    pub details: Vec<(&'static str, String)>,
    /// Headers of the answer.
    pub headers: Vec<(&'static str, String)>,
}

/// What parsing and serving answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The code with a sentence of one's own.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// The same with one more element in the document.
    #[must_use]
    pub fn with(mut self, element: &'static str, text: impl Into<String>) -> Self {
        self.details.push((element, text.into()));
        self
    }

    /// The same with one more header beside the document.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// An argument that cannot be: its name and the value as it came.
    pub fn invalid_argument(
        name: &str,
        value: impl Into<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(Code::InvalidArgument, message)
            .with("ArgumentName", name)
            .with("ArgumentValue", value)
    }

    /// Something of S3 that we refuse by its name, never silently.
    pub fn not_implemented(what: &str) -> Self {
        Self::new(Code::NotImplemented, format!("{what} is not implemented.")).with("Header", what)
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::new(code, code.message())
    }
}
