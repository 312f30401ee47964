//! Images: registered, copied, listed, taken out of use. Their attributes are next door.
//!
//! An image is its owner's, and whose the owner lets launch it: named accounts, or all. To everyone
//! else it does not exist. One that is deregistered is no longer found and launches nothing, but is
//! kept for the instances that run from it: their nodes may fetch it again.

mod bundle;
mod copy;
mod register;
mod shown;

use ec2::{
    Code, Done,
    images::{
        DeregisterImage, DescribeImages, DescribeImagesOutput, DisableImageDeprecation,
        EnableImageDeprecation,
    },
};
use store::Tx;
use types::{AccountId, ImageId, ImageState};

use super::{
    change,
    errors::{Error, Result},
    filters::Filters,
    naming,
    paging::{Page, by_time},
};
use crate::{
    Caller, Clc,
    rows::{self, images::Image as Row, launch_permissions},
};

pub use copy::copy_image;
pub(super) use register::check_companion;
pub use register::register_image;
pub(super) use shown::{BOOT_MODE, devices, product_codes};

/// Images of one account in use, each with a manifest that may have megabytes.
pub const IMAGES_MAX: u64 = 1_000;
/// The owner that means the caller, and the user that does.
const SELF: &str = "self";
/// The user that means everyone, and the group of everyone.
pub(super) const ALL: &str = "all";
/// Owners that mean the cloud's own administrators: as AWS and as Eucalyptus name themselves.
const CLOUDS_OWN: [&str; 2] = ["amazon", "eucalyptus"];
/// Owners whom clients of AWS name, and who are nobody here.
const NOBODY: [&str; 3] = ["aws-marketplace", "aws-backup-vault", "microsoft"];

/// The image of that id, if the caller may know of it.
fn visible(tx: &Tx, caller: &Caller, id: &ImageId) -> Result<Row> {
    let account = caller.account();
    let found = rows::images::find(tx, id)?.ok_or_else(|| unknown(id))?;
    let may_launch =
        found.account == *account || found.is_public || launch_permissions::has(tx, id, account)?;
    may_launch.then_some(found).ok_or_else(|| unknown(id))
}

fn unknown(id: &ImageId) -> Error {
    let message = format!("The image id '[{id}]' does not exist");
    Error::new(Code::Id("InvalidAMIID.NotFound"), message)
}

/// The image of that id, if the caller may launch it.
pub(super) fn launchable(tx: &Tx, caller: &Caller, id: &ImageId) -> Result<Row> {
    let image = visible(tx, caller, id)?;
    let unavailable = |why: &str| {
        let message = format!("The image ID '{id}' {why}");
        Err(Error::new(Code::InvalidAmiIdUnavailable, message))
    };
    match image.state {
        ImageState::Available => Ok(image),
        ImageState::Pending => unavailable("is still being copied"),
        ImageState::Failed => unavailable("could not be copied"),
        ImageState::Deregistered => unavailable("is no longer available"),
    }
}

/// The image of that id, if it is the caller's own and in use.
pub(super) fn owned(tx: &Tx, caller: &Caller, id: &ImageId) -> Result<Row> {
    let image = visible(tx, caller, id)?;
    if image.account != *caller.account() {
        let message = format!("Not authorized for image: {id}");
        return Err(Error::new(Code::AuthFailure, message));
    }
    if image.state == ImageState::Deregistered {
        let message = format!("The image ID '{id}' is no longer available");
        return Err(Error::new(Code::InvalidAmiIdUnavailable, message));
    }
    Ok(image)
}

/// Refuses one more image of an account, or a second one of a name.
fn may_be_added(tx: &Tx, account: &AccountId, name: &str) -> Result<()> {
    if rows::images::has_name(tx, account, name)? {
        let message = format!("AMI name {name} is already in use by another AMI");
        return Err(Error::new(Code::InvalidAmiNameDuplicate, message));
    }
    if rows::images::count(tx, account)? >= IMAGES_MAX {
        let message = format!("An account has {IMAGES_MAX} images at most: deregister some");
        return Err(Error::new(Code::ResourceCountExceeded, message));
    }
    Ok(())
}

/// Takes an image out of use. Its name is free again; its instances keep what they have.
pub async fn deregister_image(clc: &Clc, caller: &Caller, ask: DeregisterImage) -> Result<Done> {
    let by = caller.clone();
    change(clc, caller, move |tx| {
        let image = owned(tx, &by, &ask.image_id)?;
        Ok(rows::images::deregister(tx, &image.id)?)
    })
    .await?;
    clc.wakes.images.wake();
    Ok(Done::YES)
}

/// Takes an image out of others' lists from a day on.
pub async fn enable_image_deprecation(
    clc: &Clc,
    caller: &Caller,
    ask: EnableImageDeprecation,
) -> Result<Done> {
    let (by, at) = (caller.clone(), ask.deprecate_at.0);
    if at < clc.now() {
        let reason = "Expected a time that is yet to come";
        return Err(ec2::Error::invalid("DeprecateAt", at, reason).into());
    }
    change(clc, caller, move |tx| {
        let image = owned(tx, &by, &ask.image_id)?;
        Ok(rows::images::set_deprecated_at(tx, &image.id, Some(at))?)
    })
    .await?;
    Ok(Done::YES)
}

/// Takes that back.
pub async fn disable_image_deprecation(
    clc: &Clc,
    caller: &Caller,
    ask: DisableImageDeprecation,
) -> Result<Done> {
    let by = caller.clone();
    change(clc, caller, move |tx| {
        let image = owned(tx, &by, &ask.image_id)?;
        Ok(rows::images::set_deprecated_at(tx, &image.id, None)?)
    })
    .await?;
    Ok(Done::YES)
}

/// Lists the images that the caller owns or may launch, oldest first.
pub async fn describe_images(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeImages,
) -> Result<DescribeImagesOutput> {
    let filters = Filters::of(ask.filters)?;
    let page = Page::of(ask.max_results, ask.next_token, !ask.image_ids.is_empty())?;
    check_accounts(
        "Owner",
        &ask.owners,
        &[&CLOUDS_OWN[..], &NOBODY, &[SELF]].concat(),
    )?;
    check_accounts("ExecutableBy", &ask.executable_users, &[SELF, ALL])?;

    let account = caller.account().clone();
    let (images, mut tags, permissions, administrators) = clc
        .db
        .read(move |tx| {
            Ok::<_, Error>((
                rows::images::list_visible(tx, &account)?,
                rows::tags::by_resource(tx, &account, "image")?,
                launch_permissions::known_to(tx, &account)?,
                rows::identity::first_account(tx)?,
            ))
        })
        .await?;
    let view = View {
        own: caller.account(),
        administrators,
        permissions,
        region: &clc.region,
    };

    let is_named = !ask.image_ids.is_empty();
    let shows_deprecated = is_named || ask.include_deprecated == Some(true);
    let picked = naming::pick(images, &ask.image_ids, |image| &image.id)?;
    let listed = picked
        .into_iter()
        .filter(|image| view.is_owned(image, &ask.owners))
        .filter(|image| view.is_executable(image, &ask.executable_users))
        .filter(|image| shows_deprecated || !view.hides(image, clc.now()))
        .map(|image| {
            let own_tags = tags.remove(image.id.as_str());
            view.shown(image, own_tags.unwrap_or_default())
        });
    let admitted = listed.filter(|image| filters.admit(image)).collect();
    let (images_set, next_token) = page.cut(admitted, |image| {
        by_time(image.creation_date.0, image.image_id.as_str())
    });
    Ok(DescribeImagesOutput {
        images_set,
        next_token,
    })
}

/// Refuses what is neither an account's number nor one of these words.
fn check_accounts(parameter: &str, asked: &[String], words: &[&str]) -> Result<()> {
    let fits = |text: &String| words.contains(&text.as_str()) || text.parse::<AccountId>().is_ok();
    match asked.iter().find(|text| !fits(text)) {
        None => Ok(()),
        Some(odd) => {
            let message = format!(
                "Invalid user id for {parameter}: \"{}\"",
                odd.escape_debug()
            );
            Err(Error::new(Code::Id("InvalidUserID.Malformed"), message))
        }
    }
}

/// What decides how an account sees images.
struct View<'a> {
    own: &'a AccountId,
    administrators: Option<AccountId>,
    /// Of its own images and of those it may launch: image, and account that may.
    permissions: Vec<(ImageId, AccountId)>,
    region: &'a types::Region,
}

impl View<'_> {
    fn is_administrators(&self, image: &Row) -> bool {
        self.administrators.as_ref() == Some(&image.account)
    }

    fn is_owned(&self, image: &Row, owners: &[String]) -> bool {
        let names = |owner: &String| match owner.as_str() {
            SELF => image.account == *self.own,
            word if CLOUDS_OWN.contains(&word) => self.is_administrators(image),
            number => number == image.account.as_str(),
        };
        owners.is_empty() || owners.iter().any(names)
    }

    /// `all` is of the public ones. An account is of those that it was given; and of its own, which
    /// euca2ools asks for both ways and merges.
    fn is_executable(&self, image: &Row, users: &[String]) -> bool {
        let names = |user: &String| match user.as_str() {
            ALL => image.is_public,
            SELF => self.is_given_to(image, self.own.as_str()),
            number => self.is_given_to(image, number),
        };
        users.is_empty() || users.iter().any(names)
    }

    fn is_given_to(&self, image: &Row, account: &str) -> bool {
        image.account.as_str() == account
            || self
                .permissions
                .iter()
                .any(|(id, to)| *id == image.id && to.as_str() == account)
    }

    fn hides(&self, image: &Row, now: types::Timestamp) -> bool {
        image.account != *self.own && image.deprecated_at.is_some_and(|at| at <= now)
    }
}
