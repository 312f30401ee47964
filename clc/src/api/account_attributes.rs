//! What an account has. Old Terraform and Ansible ask for the platforms and the default VPC.

use ec2::account_attributes::{
    AccountAttribute, AccountAttributeValue, DescribeAccountAttributes,
    DescribeAccountAttributesOutput,
};

use super::{
    errors::{Error, Result},
    launch,
};
use crate::{Caller, Clc, rows};

/// Lists the attributes of the caller's account.
pub async fn describe_account_attributes(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeAccountAttributes,
) -> Result<DescribeAccountAttributesOutput> {
    let account = caller.account().clone();
    let vpc = clc
        .db
        .read(move |tx| Ok::<_, Error>(rows::network::default_vpc(tx, &account)?))
        .await?;
    let all = [
        ("supported-platforms", "VPC".to_owned()),
        (
            "default-vpc",
            vpc.map_or_else(|| "none".to_owned(), |vpc| vpc.id.to_string()),
        ),
        ("max-instances", launch::INSTANCES_MAX.to_string()),
        (
            "vpc-max-security-groups-per-interface",
            launch::GROUPS_MAX.to_string(),
        ),
        ("max-elastic-ips", "0".to_owned()),
        ("vpc-max-elastic-ips", "0".to_owned()),
    ];
    if let Some(name) = ask
        .attribute_names
        .iter()
        .find(|name| !all.iter().any(|(known, _)| known == name))
    {
        return Err(
            ec2::Error::invalid("AttributeName", name, "There is no such attribute").into(),
        );
    }
    let asked = |name: &str| {
        ask.attribute_names.is_empty() || ask.attribute_names.iter().any(|asked| asked == name)
    };
    let shown = all
        .into_iter()
        .filter(|(name, _)| asked(name))
        .map(|(name, value)| AccountAttribute {
            attribute_name: name.to_owned(),
            attribute_value_set: vec![AccountAttributeValue {
                attribute_value: value,
            }],
        });
    Ok(DescribeAccountAttributesOutput {
        account_attribute_set: shown.collect(),
    })
}
