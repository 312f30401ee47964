//! Tags on anything that has an id.

use ec2::{
    Code, Done, Tag, TagParameter, TagSpecification,
    tags::{CreateTags, DeleteTags, DescribeTags, DescribeTagsOutput, TagDescription},
};
use store::Tx;
use types::{ImageId, InstanceId, KeyPairId, SecurityGroupId, VolumeId, id::Id};

use super::{
    change,
    errors::{Error, Result},
    filters::{Field, Filterable, Filters},
    paging::Page,
};
use crate::{Caller, Clc, rows};

/// Tags of one resource, as in EC2.
const TAGS_MAX: usize = 50;
/// Characters of a key, as in EC2.
const KEY_MAX: usize = 128;
/// Characters of a value, as in EC2.
const VALUE_MAX: usize = 256;
/// Ids in one CreateTags or DeleteTags, as in EC2.
const RESOURCES_MAX: usize = 1000;

/// Keys and values.
pub type Tags = Vec<(String, String)>;

/// What a thing is by its id's prefix, as DescribeTags names it.
pub fn kind_of(id: &str) -> Option<&'static str> {
    let (prefix, _) = id.rsplit_once('-')?;
    Some(match prefix {
        "i" => "instance",
        "r" => "reservation",
        "emi" | "eki" | "eri" | "ami" | "aki" | "ari" => "image",
        "vol" => "volume",
        "bun" => "bundle-task",
        "snap" => "snapshot",
        "sg" => "security-group",
        "sgr" => "security-group-rule",
        "key" => "key-pair",
        "eni" => "network-interface",
        "vpc" => "vpc",
        "subnet" => "subnet",
        "eipalloc" => "elastic-ip",
        _ => return None,
    })
}

/// Checks the tags that are asked for; the same key twice is refused, as in EC2.
fn checked(tags: &[TagParameter]) -> Result<Vec<(String, String)>> {
    let mut checked: Vec<(String, String)> = Vec::new();
    for tag in tags {
        let value = tag.value.0.clone().unwrap_or_default();
        if tag.key.chars().count() > KEY_MAX {
            let reason = format!("A tag key has {KEY_MAX} characters at most");
            return Err(ec2::Error::invalid("Tag.Key", &tag.key, &reason).into());
        }
        if value.chars().count() > VALUE_MAX {
            let reason = format!("A tag value has {VALUE_MAX} characters at most");
            return Err(ec2::Error::invalid("Tag.Value", value, &reason).into());
        }
        if tag.key.to_ascii_lowercase().starts_with("aws:") {
            let reason = "Tag keys starting with 'aws:' are reserved for internal use";
            return Err(ec2::Error::invalid("Tag.Key", &tag.key, reason).into());
        }
        if checked.iter().any(|(key, _)| *key == tag.key) {
            let key = tag.key.escape_debug();
            let message = format!("Duplicate tag key '{key}' specified.");
            return Err(Error::new(Code::InvalidParameterValue, message));
        }
        checked.push((tag.key.clone(), value));
    }
    if checked.len() > TAGS_MAX {
        return Err(too_many());
    }
    Ok(checked)
}

fn too_many() -> Error {
    Error::new(
        Code::TagLimitExceeded,
        format!("A resource has {TAGS_MAX} tags at most"),
    )
}

/// The tags for new things of a kind; those for other kinds than `kinds` are refused, since nothing
/// of them is made.
pub fn at_creation(
    specifications: &[TagSpecification],
    kinds: &[&str],
) -> Result<Vec<(String, Tags)>> {
    let mut tags = Vec::new();
    for specification in specifications {
        let kind = specification.resource_type.as_deref().unwrap_or(kinds[0]);
        if !kinds.contains(&kind) {
            let reason = format!("Expected one of: {}", kinds.join(", "));
            return Err(ec2::Error::invalid("TagSpecification.ResourceType", kind, &reason).into());
        }
        tags.push((kind.to_owned(), checked(&specification.tags)?));
    }
    Ok(tags)
}

/// The tags for a new thing of the only kind that its action makes.
pub fn of_new(specifications: &[TagSpecification], kind: &str) -> Result<Vec<(String, String)>> {
    let tags = at_creation(specifications, &[kind])?;
    Ok(tags.into_iter().flat_map(|(_, tags)| tags).collect())
}

/// Puts tags on a thing in the transaction that makes it.
pub fn put_all(
    tx: &Tx,
    caller: &Caller,
    resource: &str,
    kind: &str,
    tags: &[(String, String)],
) -> Result<()> {
    for (key, value) in tags {
        let tag = rows::tags::Tag {
            resource: resource.to_owned(),
            kind: kind.to_owned(),
            key: key.clone(),
            value: value.clone(),
        };
        rows::tags::put(tx, caller.account(), &tag)?;
    }
    Ok(())
}

/// Tags as answers show them.
pub fn shown(tags: impl IntoIterator<Item = (String, String)>) -> Vec<Tag> {
    tags.into_iter()
        .map(|(key, value)| Tag { key, value })
        .collect()
}

/// Puts tags on things, over those of the same key.
pub async fn create_tags(clc: &Clc, caller: &Caller, ask: CreateTags) -> Result<Done> {
    let tags = checked(&ask.tags)?;
    let ids = resources(&ask.resource_ids)?;
    let by = caller.clone();
    change(clc, caller, move |tx| {
        for id in &ids {
            let kind = must_exist(tx, &by, id)?;
            put_all(tx, &by, id, kind, &tags)?;
            if rows::tags::count(tx, id)? > TAGS_MAX {
                return Err(too_many());
            }
            show_in_metadata(tx, id)?;
        }
        Ok(())
    })
    .await?;
    clc.wakes.instances.wake();
    Ok(Done::YES)
}

/// Takes tags off things.
pub async fn delete_tags(clc: &Clc, caller: &Caller, ask: DeleteTags) -> Result<Done> {
    let ids = resources(&ask.resource_ids)?;
    let by = caller.clone();
    change(clc, caller, move |tx| {
        for id in &ids {
            must_exist(tx, &by, id)?;
            if ask.tags.is_empty() {
                rows::tags::delete_all(tx, id)?;
            }
            for tag in &ask.tags {
                rows::tags::delete(tx, id, &tag.key, tag.value.0.as_deref())?;
            }
            show_in_metadata(tx, id)?;
        }
        Ok(())
    })
    .await?;
    clc.wakes.instances.wake();
    Ok(Done::YES)
}

/// The ids of a request in our own spelling: an `ami-` is an `emi-`.
fn resources(ids: &[String]) -> Result<Vec<String>> {
    if ids.len() > RESOURCES_MAX {
        let reason = format!("Expected at most {RESOURCES_MAX} ids");
        return Err(ec2::Error::invalid("ResourceId", ids.len(), &reason).into());
    }
    let own = |id: &String| match kind_of(id) {
        Some("image") => Ok(id.parse::<ImageId>().map_err(ec2::Error::from)?.to_string()),
        _ => Ok(id.clone()),
    };
    ids.iter().map(own).collect()
}

/// Refuses what the caller does not have; says what it is if so.
fn must_exist(tx: &Tx, caller: &Caller, id: &str) -> Result<&'static str> {
    let account = caller.account();
    let kind = kind_of(id);
    let exists = match kind {
        Some("instance") => rows::instances::find(tx, account, &read::<InstanceId>(id)?)?.is_some(),
        Some("volume") => rows::volumes::find(tx, account, &read::<VolumeId>(id)?)?.is_some(),
        Some("security-group") => {
            rows::security_groups::find(tx, account, &read::<SecurityGroupId>(id)?)?.is_some()
        }
        Some("image") => {
            let image = rows::images::find(tx, &read::<ImageId>(id)?)?;
            image.is_some_and(|image| image.account == *account)
        }
        Some("key-pair") => {
            let id = read::<KeyPairId>(id)?;
            rows::key_pairs::list(tx, account)?
                .iter()
                .any(|key| key.id == id)
        }
        Some("vpc") => read_vpc(tx, caller, id)?,
        Some("subnet") => read_subnet(tx, caller, id)?,
        _ => {
            let message = format!("The ID '{id}' is not valid");
            return Err(Error::new(Code::Id("InvalidID"), message));
        }
    };
    match kind {
        Some(kind) if exists => Ok(kind),
        _ => Err(not_found(kind, id)),
    }
}

fn not_found(kind: Option<&str>, id: &str) -> Error {
    let code = match kind {
        Some("instance") => InstanceId::NOT_FOUND,
        Some("volume") => VolumeId::NOT_FOUND,
        Some("security-group") => SecurityGroupId::NOT_FOUND,
        Some("image") => ImageId::NOT_FOUND,
        Some("key-pair") => KeyPairId::NOT_FOUND,
        Some("vpc") => types::VpcId::NOT_FOUND,
        Some("subnet") => types::SubnetId::NOT_FOUND,
        _ => "InvalidID",
    };
    Error::new(Code::Id(code), format!("The ID '{id}' does not exist"))
}

fn read<I: Id>(id: &str) -> Result<I> {
    Ok(id.parse::<I>().map_err(ec2::Error::from)?)
}

fn read_vpc(tx: &Tx, caller: &Caller, id: &str) -> Result<bool> {
    let id = read::<types::VpcId>(id)?;
    let vpc = rows::network::find_vpc(tx, &id)?;
    Ok(vpc.is_some_and(|vpc| vpc.account == *caller.account()))
}

fn read_subnet(tx: &Tx, caller: &Caller, id: &str) -> Result<bool> {
    let id = read::<types::SubnetId>(id)?;
    let subnet = rows::network::find_subnet(tx, &id)?;
    Ok(subnet.is_some_and(|subnet| subnet.account == *caller.account()))
}

/// An instance that shows its tags to its guest needs a new wish.
fn show_in_metadata(tx: &Tx, id: &str) -> Result<()> {
    let Ok(id) = id.parse::<InstanceId>() else {
        return Ok(());
    };
    let instance = rows::instances::load(tx, &id)?;
    if instance.is_some_and(|instance| instance.metadata_tags) {
        rows::instances::touch(tx, &id)?;
    }
    Ok(())
}

impl Filterable for TagDescription {
    const FIELDS: &'static [Field<Self>] = &[
        ("key", |tag| vec![tag.key.clone()]),
        ("resource-id", |tag| vec![tag.resource_id.clone()]),
        ("resource-type", |tag| vec![tag.resource_type.clone()]),
        ("value", |tag| vec![tag.value.clone()]),
    ];

    fn tags(&self) -> Option<&[Tag]> {
        None
    }
}

/// Lists the tags of the account.
pub async fn describe_tags(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeTags,
) -> Result<DescribeTagsOutput> {
    let filters = Filters::of(ask.filters)?;
    let page = Page::of(ask.max_results, ask.next_token, false)?;
    let account = caller.account().clone();
    let tags: Vec<rows::tags::Tag> = clc
        .db
        .read(move |tx| Ok::<_, Error>(rows::tags::list(tx, &account)?))
        .await?;

    let described = tags.into_iter().map(|tag| TagDescription {
        resource_id: tag.resource,
        resource_type: tag.kind,
        key: tag.key,
        value: tag.value,
    });
    let admitted = described.filter(|tag| filters.admit(tag)).collect();
    let (tag_set, next_token) =
        page.cut(admitted, |tag| format!("{}/{}", tag.resource_id, tag.key));
    Ok(DescribeTagsOutput {
        tag_set,
        next_token,
    })
}
