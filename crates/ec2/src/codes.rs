//! Every error code that we answer, with its word and its HTTP status.
//!
//! 5xx is for what may pass by itself: every SDK retries it, for minutes. So what is not supported,
//! and what does not fit, is a 400. `InsufficientInstanceCapacity` is a 500 in AWS's own table: ours
//! differs on purpose.

/// An error code of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The own code of a kind of id: `InvalidInstanceID.NotFound`, `InvalidVolumeID.Malformed`.
    Id(&'static str),

    // who asks
    AuthFailure,
    RequestExpired,
    SignatureDoesNotMatch,
    UnauthorizedOperation,

    // what is asked
    DryRunOperation,
    IdempotentParameterMismatch,
    InvalidAction,
    InvalidNextToken,
    InvalidParameterCombination,
    InvalidParameterValue,
    MalformedQueryString,
    MissingAction,
    MissingParameter,
    UnsupportedOperation,

    // things
    BundlingInProgress,
    CannotDelete,
    DependencyViolation,
    IncorrectState,
    InvalidAmiIdUnavailable,
    InvalidAmiNameDuplicate,
    InvalidBlockDeviceMapping,
    InvalidGroupDuplicate,
    InvalidGroupInUse,
    InvalidGroupReserved,
    InvalidIpAddressInUse,
    InvalidKeyFormat,
    InvalidKeyPairDuplicate,
    InvalidManifest,
    InvalidPermissionDuplicate,
    InvalidPermissionMalformed,
    InvalidPermissionNotFound,
    InvalidZoneNotFound,
    InvalidAmiAttributeItemValue,
    OperationNotPermitted,
    UnknownVolumeType,
    VolumeInUse,

    // room
    InsufficientAddressCapacity,
    InsufficientFreeAddressesInSubnet,
    InsufficientInstanceCapacity,
    InsufficientVolumeCapacity,
    InstanceLimitExceeded,
    ResourceCountExceeded,
    RulesPerSecurityGroupLimitExceeded,
    SecurityGroupLimitExceeded,
    SecurityGroupsPerInterfaceLimitExceeded,
    TagLimitExceeded,

    // us
    InternalError,
    RequestLimitExceeded,
    Unavailable,
}

impl Code {
    /// The word in `<Code>`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Id(word) => word,
            Self::AuthFailure => "AuthFailure",
            Self::RequestExpired => "RequestExpired",
            Self::SignatureDoesNotMatch => "SignatureDoesNotMatch",
            Self::UnauthorizedOperation => "UnauthorizedOperation",
            Self::DryRunOperation => "DryRunOperation",
            Self::IdempotentParameterMismatch => "IdempotentParameterMismatch",
            Self::InvalidAction => "InvalidAction",
            Self::InvalidNextToken => "InvalidNextToken",
            Self::InvalidParameterCombination => "InvalidParameterCombination",
            Self::InvalidParameterValue => "InvalidParameterValue",
            Self::MalformedQueryString => "MalformedQueryString",
            Self::MissingAction => "MissingAction",
            Self::MissingParameter => "MissingParameter",
            Self::UnsupportedOperation => "UnsupportedOperation",
            Self::BundlingInProgress => "BundlingInProgress",
            Self::CannotDelete => "CannotDelete",
            Self::DependencyViolation => "DependencyViolation",
            Self::IncorrectState => "IncorrectState",
            Self::InvalidAmiIdUnavailable => "InvalidAMIID.Unavailable",
            Self::InvalidAmiNameDuplicate => "InvalidAMIName.Duplicate",
            Self::InvalidBlockDeviceMapping => "InvalidBlockDeviceMapping",
            Self::InvalidGroupDuplicate => "InvalidGroup.Duplicate",
            Self::InvalidGroupInUse => "InvalidGroup.InUse",
            Self::InvalidGroupReserved => "InvalidGroup.Reserved",
            Self::InvalidIpAddressInUse => "InvalidIPAddress.InUse",
            Self::InvalidKeyFormat => "InvalidKey.Format",
            Self::InvalidKeyPairDuplicate => "InvalidKeyPair.Duplicate",
            Self::InvalidManifest => "InvalidManifest",
            Self::InvalidPermissionDuplicate => "InvalidPermission.Duplicate",
            Self::InvalidPermissionMalformed => "InvalidPermission.Malformed",
            Self::InvalidPermissionNotFound => "InvalidPermission.NotFound",
            Self::InvalidZoneNotFound => "InvalidZone.NotFound",
            Self::InvalidAmiAttributeItemValue => "InvalidAMIAttributeItemValue",
            Self::OperationNotPermitted => "OperationNotPermitted",
            Self::UnknownVolumeType => "UnknownVolumeType",
            Self::VolumeInUse => "VolumeInUse",
            Self::InsufficientAddressCapacity => "InsufficientAddressCapacity",
            Self::InsufficientFreeAddressesInSubnet => "InsufficientFreeAddressesInSubnet",
            Self::InsufficientInstanceCapacity => "InsufficientInstanceCapacity",
            Self::InsufficientVolumeCapacity => "InsufficientVolumeCapacity",
            Self::ResourceCountExceeded => "ResourceCountExceeded",
            Self::InstanceLimitExceeded => "InstanceLimitExceeded",
            Self::RulesPerSecurityGroupLimitExceeded => "RulesPerSecurityGroupLimitExceeded",
            Self::SecurityGroupLimitExceeded => "SecurityGroupLimitExceeded",
            Self::SecurityGroupsPerInterfaceLimitExceeded => {
                "SecurityGroupsPerInterfaceLimitExceeded"
            }
            Self::TagLimitExceeded => "TagLimitExceeded",
            Self::InternalError => "InternalError",
            Self::RequestLimitExceeded => "RequestLimitExceeded",
            Self::Unavailable => "Unavailable",
        }
    }

    /// The HTTP status that it goes out with.
    pub const fn status(self) -> u16 {
        match self {
            Self::AuthFailure => 401,
            Self::SignatureDoesNotMatch | Self::UnauthorizedOperation => 403,
            Self::DryRunOperation => 412,
            Self::InternalError => 500,
            Self::RequestLimitExceeded | Self::Unavailable => 503,
            Self::Id(_)
            | Self::RequestExpired
            | Self::IdempotentParameterMismatch
            | Self::InvalidAction
            | Self::InvalidNextToken
            | Self::InvalidParameterCombination
            | Self::InvalidParameterValue
            | Self::MalformedQueryString
            | Self::MissingAction
            | Self::MissingParameter
            | Self::UnsupportedOperation
            | Self::BundlingInProgress
            | Self::CannotDelete
            | Self::DependencyViolation
            | Self::IncorrectState
            | Self::InvalidAmiIdUnavailable
            | Self::InvalidAmiNameDuplicate
            | Self::InvalidBlockDeviceMapping
            | Self::InvalidGroupDuplicate
            | Self::InvalidGroupInUse
            | Self::InvalidGroupReserved
            | Self::InvalidIpAddressInUse
            | Self::InvalidKeyFormat
            | Self::InvalidKeyPairDuplicate
            | Self::InvalidManifest
            | Self::InvalidPermissionDuplicate
            | Self::InvalidPermissionMalformed
            | Self::InvalidPermissionNotFound
            | Self::InvalidZoneNotFound
            | Self::InvalidAmiAttributeItemValue
            | Self::OperationNotPermitted
            | Self::UnknownVolumeType
            | Self::VolumeInUse
            | Self::InsufficientAddressCapacity
            | Self::InsufficientFreeAddressesInSubnet
            | Self::InsufficientInstanceCapacity
            | Self::InsufficientVolumeCapacity
            | Self::InstanceLimitExceeded
            | Self::ResourceCountExceeded
            | Self::RulesPerSecurityGroupLimitExceeded
            | Self::SecurityGroupLimitExceeded
            | Self::SecurityGroupsPerInterfaceLimitExceeded
            | Self::TagLimitExceeded => 400,
        }
    }
}
