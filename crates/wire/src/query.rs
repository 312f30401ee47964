//! Query parameters: `Filter.1.Name=k&Filter.1.Value.2=v` as a tree, read by [`decode`] into any
//! `Deserialize` type.
//!
//! A segment of digits is an index: elements come in numeric order, gaps are fine, and the first may
//! be 0 (libcloud). An empty value is an absent parameter unless the field is a
//! [`Verbatim`](crate::Verbatim). Every parameter may be given once. What no field claimed is
//! reported, not refused: clients send more than a server knows.

mod de;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

/// Parameters in one request. DescribeInstances with 50 filters of 200 values, EC2's own limits,
/// has 10,050.
pub const PARAMETERS_MAX: usize = 12_000;
/// Segments in a name. The deepest that we know has 6.
pub const DEPTH_MAX: usize = 10;
/// Characters of a value that an error repeats: enough to recognise it, too few to leak a key.
const ECHO_MAX: usize = 64;

/// What is wrong with the parameters of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A parameter that must be there is not, or is empty.
    #[error("The request must contain the parameter {parameter}")]
    Missing {
        /// Its full name, `Filter.1.Name`.
        parameter: String,
    },
    /// A value that does not parse.
    #[error("Value ({value}) for parameter {parameter} is invalid. {reason}")]
    Invalid {
        /// The EC2 code if the type of the value has one of its own, `InvalidInstanceID.Malformed`.
        code: Option<String>,
        /// Its full name.
        parameter: String,
        /// The value, cut to 64 characters.
        value: String,
        /// What the type of the value says about it.
        reason: String,
    },
    /// The same name twice.
    #[error("The parameter {parameter} may only be specified once")]
    Duplicate {
        /// Its full name.
        parameter: String,
    },
    /// The text is no form data, or is beyond a limit.
    #[error("The query string is malformed: {0}")]
    Malformed(&'static str),
}

impl Error {
    /// The EC2 error code.
    pub fn code(&self) -> &str {
        match self {
            Self::Missing { .. } => "MissingParameter",
            Self::Invalid {
                code: Some(code), ..
            } => code,
            Self::Invalid { code: None, .. } | Self::Duplicate { .. } => "InvalidParameterValue",
            Self::Malformed(_) => "MalformedQueryString",
        }
    }
}

/// The parameters of one request, each with its value, as sent and as a tree.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    pairs: Vec<(String, String)>,
    root: Node,
}

/// A place in the tree: `Filter`, `Filter.1`, `Filter.1.Name`.
#[derive(Debug, Clone, Default)]
struct Node {
    /// Where in `pairs` the value of exactly this name is.
    pair: Option<usize>,
    children: BTreeMap<String, Node>,
}

impl Parameters {
    /// Reads `a=1&b=2` form data: a query string, or a body of `application/x-www-form-urlencoded`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::from_pairs(form_pairs(text)?)
    }

    /// Takes pairs that are already decoded.
    pub fn from_pairs(pairs: Vec<(String, String)>) -> Result<Self, Error> {
        if pairs.len() > PARAMETERS_MAX {
            return Err(Error::Malformed("too many parameters"));
        }
        let mut root = Node::default();
        for (index, (name, _)) in pairs.iter().enumerate() {
            let node = root.descend(name)?;
            if node.pair.replace(index).is_some() {
                return Err(Error::Duplicate {
                    parameter: name.clone(),
                });
            }
        }
        Ok(Self { pairs, root })
    }

    /// The value of exactly this name, if it is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(given, _)| given == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// All parameters, in the order in which they came.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

impl Node {
    fn descend(&mut self, name: &str) -> Result<&mut Self, Error> {
        let mut node = self;
        for (depth, segment) in name.split('.').enumerate() {
            if depth == DEPTH_MAX {
                return Err(Error::Malformed("a parameter name is too deep"));
            }
            // `Tag.01` is `Tag.1`, so that one element cannot hide behind two names.
            let segment = index(segment).map_or_else(|| segment.to_owned(), |n| n.to_string());
            node = node.children.entry(segment).or_default();
        }
        Ok(node)
    }
}

fn index(segment: &str) -> Option<u32> {
    let digits = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| segment.parse().ok()).flatten()
}

/// Splits and decodes form data, `+` and all.
pub fn form_pairs(text: &str) -> Result<Vec<(String, String)>, Error> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((form_decode(name)?, form_decode(value)?))
        })
        .collect()
}

fn form_decode(text: &str) -> Result<String, Error> {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Error::Malformed("a value is not UTF-8"))
}

/// A request, and what it did not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded<T> {
    /// The request.
    pub value: T,
    /// Names of non-empty parameters that no field claimed, in the order in which they came.
    pub unclaimed: Vec<String>,
}

/// Reads the parameters into a request.
pub fn decode<T: DeserializeOwned>(parameters: &Parameters) -> Result<Decoded<T>, Error> {
    let claims = de::Claims::new(&parameters.pairs);
    let value = de::read(&parameters.root, &claims)?;
    Ok(Decoded {
        value,
        unclaimed: claims.unclaimed(),
    })
}

#[cfg(test)]
mod tests;
