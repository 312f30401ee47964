//! What an account has: its default VPC, its platforms, its limits.

use serde::{Deserialize, Serialize};

use crate::Action;

/// Lists attributes of the caller's account.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeAccountAttributes {
    #[serde(default, rename = "AttributeName")]
    pub attribute_names: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAccountAttributesOutput {
    pub account_attribute_set: Vec<AccountAttribute>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountAttribute {
    pub attribute_name: String,
    pub attribute_value_set: Vec<AccountAttributeValue>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountAttributeValue {
    pub attribute_value: String,
}

impl Action for DescribeAccountAttributes {
    const NAME: &'static str = "DescribeAccountAttributes";
    type Output = DescribeAccountAttributesOutput;
}
