//! An error as it goes out: a code, a sentence for the user, and for the log what caused it.

use types::{
    InstanceId, KeyPairId, Malformed, NetworkInterfaceId, SecurityGroupId, SecurityGroupRuleId,
    SnapshotId, SubnetId, VolumeId, VpcId,
    id::{AllocationId, Id, ImageId},
};

use crate::Code;

/// What a handler answers instead of its output.
#[derive(Debug)]
pub struct Error {
    /// The code, by which clients decide.
    pub code: Code,
    /// A sentence for the user.
    pub message: String,
    /// What lies beneath; for the log only.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result of the API.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its code and a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            source: None,
        }
    }

    /// An id that names nothing, with the code of its kind.
    pub fn not_found<I: Id>(id: &I) -> Self {
        Self::new(
            Code::Id(I::NOT_FOUND),
            format!("The {} '{id}' does not exist", I::NOUN),
        )
    }

    /// A defect or a broken disk: the user learns the request id, the log the rest.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let message = "An internal error has occurred. Quote the request id to your administrator.";
        Self {
            source: Some(source.into()),
            ..Self::new(Code::InternalError, message)
        }
    }

    /// A value that cannot be.
    pub fn invalid(parameter: &str, value: impl std::fmt::Display, reason: &str) -> Self {
        let message = format!("Value ({value}) for parameter {parameter} is invalid. {reason}");
        Self::new(Code::InvalidParameterValue, message)
    }

    /// A parameter that must be there.
    pub fn missing(parameter: &str) -> Self {
        let message = format!("The request must contain the parameter {parameter}");
        Self::new(Code::MissingParameter, message)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(Code::Id(malformed.code), malformed.to_string())
    }
}

/// The codes that ids carry through [`wire::query`], which knows them as text.
const MALFORMED: [&str; 11] = [
    AllocationId::MALFORMED,
    ImageId::MALFORMED,
    InstanceId::MALFORMED,
    KeyPairId::MALFORMED,
    NetworkInterfaceId::MALFORMED,
    SecurityGroupId::MALFORMED,
    SecurityGroupRuleId::MALFORMED,
    SnapshotId::MALFORMED,
    SubnetId::MALFORMED,
    VolumeId::MALFORMED,
    VpcId::MALFORMED,
];

impl From<wire::query::Error> for Error {
    fn from(error: wire::query::Error) -> Self {
        use wire::query::Error as Wrong;

        let message = error.to_string();
        let code = match &error {
            Wrong::Missing { .. } => Code::MissingParameter,
            Wrong::Invalid { code, .. } => MALFORMED
                .into_iter()
                .find(|known| Some(*known) == code.as_deref())
                .map_or(Code::InvalidParameterValue, Code::Id),
            Wrong::Duplicate { .. } => Code::InvalidParameterValue,
            Wrong::Malformed(_) => Code::MalformedQueryString,
        };
        match error {
            // EC2 names the id, not the parameter, where the id has a code of its own.
            Wrong::Invalid { reason, .. } if matches!(code, Code::Id(_)) => Self::new(code, reason),
            _ => Self::new(code, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_id_keeps_its_code_through_the_query() {
        let parameters = wire::Parameters::parse("VolumeId=vol-x").unwrap();
        let error = wire::query::decode::<crate::volumes::DeleteVolume>(&parameters).unwrap_err();
        let error = Error::from(error);
        assert_eq!(
            error.to_string(),
            "InvalidVolumeID.Malformed: Invalid id: \"vol-x\" (expecting \"vol-...\")"
        );
    }
}
