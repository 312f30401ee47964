//! What many shapes have: filters, tags, groups, and the answer that says nothing but yes.

use serde::{Deserialize, Serialize};
use types::SecurityGroupId;
use wire::Verbatim;

/// The answer of an action that has none: `<return>true</return>`, which boto 2 tests for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Done {
    #[serde(rename = "return")]
    pub done: bool,
}

impl Done {
    /// It is done.
    pub const YES: Self = Self { done: true };
}

/// `Filter.N.Name` and `Filter.N.Value.M`: values are alternatives.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Filter {
    pub name: String,
    #[serde(default, rename = "Value")]
    pub values: Verbatim<Vec<String>>,
}

/// A tag as it is asked for. No value differs from an empty one in DeleteTags.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagParameter {
    pub key: String,
    #[serde(default)]
    pub value: Verbatim<Option<String>>,
}

/// Tags for what is being made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagSpecification {
    pub resource_type: Option<String>,
    #[serde(default, rename = "Tag")]
    pub tags: Vec<TagParameter>,
}

/// A tag as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tag {
    pub key: String,
    pub value: String,
}

/// A security group, by both its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupIdentifier {
    /// Before 2011 this was the group's name, so it is text.
    pub group_id: String,
    pub group_name: String,
}

impl GroupIdentifier {
    /// A group by id and name.
    pub fn new(id: &SecurityGroupId, name: &str) -> Self {
        Self {
            group_id: id.to_string(),
            group_name: name.to_owned(),
        }
    }
}

/// Why something is in its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateReason {
    pub code: String,
    pub message: String,
}

impl From<types::StateReason> for StateReason {
    fn from(reason: types::StateReason) -> Self {
        Self {
            code: reason.code,
            message: reason.message,
        }
    }
}

/// `<value>`, or nothing in it.
#[derive(Debug, Clone, Serialize)]
pub struct Value<T> {
    pub value: T,
}
