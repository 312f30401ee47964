//! One attribute of an image at a time, read or changed by its owner.

use std::collections::BTreeSet;

use ec2::{
    Code, Done,
    common::Value,
    image_attributes::{
        DescribeImageAttribute, DescribeImageAttributeOutput, ImageAttribute, LaunchPermission,
        LaunchPermissionAsk, ModifyImageAttribute, OperationType, ResetImageAttribute,
    },
};
use store::Tx;
use types::{AccountId, ImageId};

use super::{
    change,
    errors::{Error, Result},
    images::{self, ALL, BOOT_MODE, owned},
    naming,
};
use crate::{
    Caller, Clc,
    rows::{self, images::Image as Row, launch_permissions},
};

/// Accounts that may launch one image: each launch looks through them.
const PERMISSIONS_MAX: usize = 1_000;
/// Product codes of one image, as many as a manifest may name.
const PRODUCT_CODES_MAX: usize = 64;

/// Shows the attribute that is asked for, and no other.
pub async fn describe_image_attribute(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeImageAttribute,
) -> Result<DescribeImageAttributeOutput> {
    let (by, id) = (caller.clone(), ask.image_id);
    let (row, accounts) = clc
        .db
        .read(move |tx| {
            let row = owned(tx, &by, &id)?;
            Ok::<_, Error>((row, launch_permissions::of(tx, &id)?))
        })
        .await?;

    let mut shown = DescribeImageAttributeOutput::of(row.id.clone());
    match ask.attribute {
        ImageAttribute::Description => {
            shown.description = Some(Value {
                value: row.description,
            })
        }
        ImageAttribute::Kernel => shown.kernel = Some(Value { value: row.kernel }),
        ImageAttribute::Ramdisk => shown.ramdisk = Some(Value { value: row.ramdisk }),
        ImageAttribute::LaunchPermission => {
            shown.launch_permission = Some(permissions(&row, accounts))
        }
        ImageAttribute::ProductCodes => {
            shown.product_codes = Some(images::product_codes(row.product_codes))
        }
        ImageAttribute::BlockDeviceMapping => {
            shown.block_device_mapping = Some(images::devices(row.devices))
        }
        ImageAttribute::BootMode => shown.boot_mode = Some(Value { value: BOOT_MODE }),
        ImageAttribute::DeregistrationProtection => {
            shown.deregistration_protection = Some(Value { value: "disabled" })
        }
        // EC2 shows nothing where there is none.
        ImageAttribute::SriovNetSupport
        | ImageAttribute::TpmSupport
        | ImageAttribute::UefiData
        | ImageAttribute::LastLaunchedTime
        | ImageAttribute::ImdsSupport => {}
    }
    Ok(shown)
}

fn permissions(row: &Row, accounts: Vec<AccountId>) -> Vec<LaunchPermission> {
    let everyone = row.is_public.then(|| LaunchPermission {
        group: Some(ALL.to_owned()),
        ..LaunchPermission::default()
    });
    let account = |account| LaunchPermission {
        user_id: Some(account),
        ..LaunchPermission::default()
    };
    everyone
        .into_iter()
        .chain(accounts.into_iter().map(account))
        .collect()
}

/// What a request changes.
enum Change {
    Permissions(Permissions),
    Description(Option<String>),
    ProductCodes(Vec<String>),
}

/// Who is to be let in, and who no longer.
#[derive(Default)]
struct Permissions {
    add: Whom,
    remove: Whom,
}

#[derive(Default)]
struct Whom {
    everyone: bool,
    accounts: BTreeSet<AccountId>,
}

/// Changes one attribute of an image.
pub async fn modify_image_attribute(
    clc: &Clc,
    caller: &Caller,
    ask: ModifyImageAttribute,
) -> Result<Done> {
    let (by, id) = (caller.clone(), ask.image_id.clone());
    let wanted = wanted(ask)?;
    change(clc, caller, move |tx| {
        let row = owned(tx, &by, &id)?;
        match wanted {
            Change::Permissions(changes) => permit(tx, &row, &changes),
            Change::Description(text) => {
                Ok(rows::images::set_description(tx, &id, text.as_deref())?)
            }
            Change::ProductCodes(codes) => add_product_codes(tx, &row, codes),
        }
    })
    .await?;
    Ok(Done::YES)
}

/// The one attribute of a request, in either form.
fn wanted(ask: ModifyImageAttribute) -> Result<Change> {
    if !ask.organization_arns.is_empty() || !ask.organizational_unit_arns.is_empty() {
        return Err(no_organizations());
    }
    if ask.imds_support.is_some() {
        return Err(fixed("imdsSupport"));
    }
    let mut changes = Vec::new();
    if let Some(permission) = &ask.launch_permission {
        changes.push(Change::Permissions(Permissions {
            add: whom(&permission.add)?,
            remove: whom(&permission.remove)?,
        }));
    }
    if let Some(description) = &ask.description {
        changes.push(Change::Description(text(description.value.clone())?));
    }
    if let Some(attribute) = &ask.attribute {
        // Some clients name the attribute that they give in its own form.
        if changes.is_empty() || !matches!(attribute.as_str(), "launchPermission" | "description") {
            changes.push(by_name(attribute, &ask)?);
        }
    } else if !ask.product_codes.is_empty() {
        changes.push(Change::ProductCodes(ask.product_codes.clone()));
    } else if ask.operation_type.is_some() {
        changes.push(by_name("launchPermission", &ask)?);
    }
    match (changes.pop(), changes.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Error::new(
            Code::MissingParameter,
            "The request must name an attribute to change",
        )),
        (Some(_), false) => Err(Error::new(
            Code::InvalidParameterCombination,
            "Only one attribute can be changed at a time",
        )),
    }
}

/// The form before 2011: the attribute's name, and its values beside it.
fn by_name(attribute: &str, ask: &ModifyImageAttribute) -> Result<Change> {
    match attribute {
        "launchPermission" => {
            let mut whom = Whom::default();
            for user in &ask.user_ids {
                whom.accounts.insert(account(user)?);
            }
            for name in &ask.user_groups {
                group(name)?;
                whom.everyone = true;
            }
            let (add, remove) = match ask.operation_type {
                Some(OperationType::Add) => (whom, Whom::default()),
                Some(OperationType::Remove) => (Whom::default(), whom),
                None => return Err(ec2::Error::missing("OperationType").into()),
            };
            Ok(Change::Permissions(Permissions { add, remove }))
        }
        "description" => Ok(Change::Description(text(ask.value.clone())?)),
        "productCodes" => Ok(Change::ProductCodes(ask.product_codes.clone())),
        other => Err(fixed(other)),
    }
}

fn fixed(attribute: &str) -> Error {
    let shown = attribute.escape_debug();
    let message = format!("The attribute {shown} of an image cannot be changed: register it anew");
    Error::new(Code::UnsupportedOperation, message)
}

fn no_organizations() -> Error {
    let message = "There are no organizations here: share an image with accounts, or with all";
    Error::new(Code::UnsupportedOperation, message)
}

/// A description; an empty one is none.
fn text(text: Option<String>) -> Result<Option<String>> {
    if let Some(text) = &text {
        naming::printable("Description", text)?;
    }
    Ok(text)
}

fn whom(asked: &[LaunchPermissionAsk]) -> Result<Whom> {
    let mut whom = Whom::default();
    for one in asked {
        if one.organization_arn.is_some() || one.organizational_unit_arn.is_some() {
            return Err(no_organizations());
        }
        if let Some(user) = &one.user_id {
            whom.accounts.insert(account(user)?);
        }
        if let Some(name) = &one.group {
            group(name)?;
            whom.everyone = true;
        }
    }
    Ok(whom)
}

/// An account's number, which people write with dashes too.
fn account(text: &str) -> Result<AccountId> {
    let number = text.replace('-', "").parse();
    number.map_err(|_| bad_item(text, "userId"))
}

fn group(name: &str) -> Result<()> {
    match name {
        ALL => Ok(()),
        _ => Err(bad_item(name, "group")),
    }
}

fn bad_item(text: &str, kind: &str) -> Error {
    let shown = text.escape_debug();
    let message = format!("Invalid attribute item value \"{shown}\" for {kind} item type");
    Error::new(Code::InvalidAmiAttributeItemValue, message)
}

/// Adds, then removes, so that who is named in both is out.
fn permit(tx: &Tx, row: &Row, changes: &Permissions) -> Result<()> {
    for account in &changes.add.accounts {
        if !rows::identity::is_account(tx, account)? {
            return Err(bad_item(account.as_str(), "userId"));
        }
        launch_permissions::add(tx, &row.id, account)?;
    }
    for account in &changes.remove.accounts {
        launch_permissions::remove(tx, &row.id, account)?;
    }
    let is_public = (row.is_public || changes.add.everyone) && !changes.remove.everyone;
    launch_permissions::set_public(tx, &row.id, is_public)?;
    if launch_permissions::of(tx, &row.id)?.len() > PERMISSIONS_MAX {
        let message = format!("An image is shared with {PERMISSIONS_MAX} accounts at most");
        return Err(Error::new(Code::ResourceCountExceeded, message));
    }
    Ok(())
}

/// Product codes are never taken away, as in EC2.
fn add_product_codes(tx: &Tx, row: &Row, added: Vec<String>) -> Result<()> {
    let mut codes = row.product_codes.clone();
    for code in added {
        naming::printable("ProductCode", &code)?;
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    if codes.len() > PRODUCT_CODES_MAX {
        let message = format!("An image has {PRODUCT_CODES_MAX} product codes at most");
        return Err(Error::new(Code::ResourceCountExceeded, message));
    }
    Ok(rows::images::set_product_codes(tx, &row.id, &codes)?)
}

/// Leaves an image to its owner alone. EC2 resets nothing else.
pub async fn reset_image_attribute(
    clc: &Clc,
    caller: &Caller,
    ask: ResetImageAttribute,
) -> Result<Done> {
    if ask.attribute != "launchPermission" {
        let reason = "Expected launchPermission: nothing else can be reset";
        let shown = ask.attribute.escape_debug();
        return Err(ec2::Error::invalid("Attribute", shown, reason).into());
    }
    let (by, id): (Caller, ImageId) = (caller.clone(), ask.image_id);
    change(clc, caller, move |tx| {
        let row = owned(tx, &by, &id)?;
        Ok(launch_permissions::reset(tx, &row.id)?)
    })
    .await?;
    Ok(Done::YES)
}
