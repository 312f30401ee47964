//! Tags on anything that has an id.

use serde::{Deserialize, Serialize};

use crate::{Action, Done, Filter, TagParameter};

/// Puts tags on things, over those of the same key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateTags {
    #[serde(rename = "ResourceId")]
    pub resource_ids: Vec<String>,
    #[serde(rename = "Tag")]
    pub tags: Vec<TagParameter>,
}

impl Action for CreateTags {
    const NAME: &'static str = "CreateTags";
    type Output = Done;
}

/// Takes tags off things: with a value only where it is that, with no tag at all every tag.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteTags {
    #[serde(rename = "ResourceId")]
    pub resource_ids: Vec<String>,
    #[serde(default, rename = "Tag")]
    pub tags: Vec<TagParameter>,
}

impl Action for DeleteTags {
    const NAME: &'static str = "DeleteTags";
    type Output = Done;
}

/// Lists tags.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeTags {
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub max_results: Option<u32>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeTagsOutput {
    pub tag_set: Vec<TagDescription>,
    pub next_token: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TagDescription {
    pub resource_id: String,
    pub resource_type: String,
    pub key: String,
    pub value: String,
}

impl Action for DescribeTags {
    const NAME: &'static str = "DescribeTags";
    type Output = DescribeTagsOutput;
}
