//! Volumes: asked for and given up here, made and removed by the zone's Storage Controller.

mod status;

use ec2::{
    Code, Done, Tag,
    volumes::{
        CreateVolume, DeleteVolume, DescribeVolumes, DescribeVolumesOutput, Volume,
        VolumeAttachment,
    },
};
use store::Tx;
use types::{Gib, SnapshotId, VolumeId, VolumeState, Zone, id::Id};

use super::{
    change,
    errors::{Error, Result},
    filters::{Field, Filterable, Filters},
    idempotency::Token,
    naming,
    paging::{Page, by_time},
    tags, would_have_succeeded, zones,
};
use crate::{Caller, Clc, rows, rows::volumes::Volume as Row};
pub use status::describe_volume_status;

/// The largest volume in GiB, as in EC2.
const SIZE_MAX: u32 = 16_384;
/// The types that clients may name. All are the same here: what the pool is.
const TYPES: [&str; 7] = ["standard", "gp2", "gp3", "io1", "io2", "st1", "sc1"];

/// Asks for a volume.
pub async fn create_volume(clc: &Clc, caller: &Caller, ask: CreateVolume) -> Result<Volume> {
    let tags = tags::of_new(&ask.tag_specifications, "volume")?;
    let (volume_type, size) = asked(&ask)?;
    let token = Token::of("CreateVolume", ask.client_token.as_deref(), &ask)?;
    // First of all: a repeated call gets its answer, whatever has changed since.
    let (by, first) = (caller.clone(), token.clone());
    let looked = move |tx: &Tx| {
        let before = repeated(tx, &by, first.as_ref())?;
        Ok::<_, Error>((before, rows::cloud::zones(tx)?))
    };
    let (before, zones) = clc.db.read(looked).await?;
    if let Some((volume, tags)) = before {
        return match caller.is_dry_run() {
            true => Err(would_have_succeeded()),
            false => Ok(shown(volume, tags)),
        };
    }
    let zone = zones::must_be(&zones, &ask.availability_zone)?;
    must_have_room(clc, &zone, size)?;

    let now = clc.now();
    let volume = Row {
        id: clc.mint(VolumeId::mint),
        account: caller.account().clone(),
        zone,
        size,
        snapshot: None,
        volume_type,
        created_at: now,
        is_wanted: true,
        generation: 1,
        taken_generation: 0,
        state: VolumeState::Creating,
        state_since: now,
        reason: None,
    };
    let (volume, tags) = record(clc, caller, volume, tags, token).await?;
    clc.wakes.volumes.wake();
    Ok(shown(volume, tags))
}

/// The type and the size that are asked for, if there is such a volume.
fn asked(ask: &CreateVolume) -> Result<(String, Gib)> {
    let volume_type = ask
        .volume_type
        .clone()
        .unwrap_or_else(|| TYPES[0].to_owned());
    if !TYPES.contains(&volume_type.as_str()) {
        let message = format!(
            "Unsupported volume type '{}' for volume creation",
            volume_type.escape_debug()
        );
        return Err(Error::new(Code::UnknownVolumeType, message));
    }
    let unsupported = |message: &str| Err(Error::new(Code::UnsupportedOperation, message));
    if ask.encrypted == Some(true) || ask.kms_key_id.is_some() {
        return unsupported("Volumes are not encrypted here");
    }
    if ask.multi_attach_enabled == Some(true) {
        return unsupported("A volume is attached to one instance at a time");
    }
    if let Some(snapshot) = &ask.snapshot_id {
        return Err(ec2::Error::not_found::<SnapshotId>(snapshot).into());
    }
    let size = ask.size.ok_or_else(|| ec2::Error::missing("Size"))?;
    if !(1..=SIZE_MAX).contains(&size) {
        let reason = format!("Expected 1 to {SIZE_MAX} GiB");
        return Err(ec2::Error::invalid("Size", size, &reason).into());
    }
    Ok((volume_type, Gib(size)))
}

/// Records a volume with its tags and its token, or finds what the token made meanwhile.
async fn record(
    clc: &Clc,
    caller: &Caller,
    volume: Row,
    tags: Tags,
    token: Option<Token>,
) -> Result<(Row, Tags)> {
    let by = caller.clone();
    change(clc, caller, move |tx| {
        if let Some(before) = repeated(tx, &by, token.as_ref())? {
            return Ok(before);
        }
        if let Some(token) = &token {
            token.record(tx, &by, volume.id.as_str(), volume.created_at)?;
        }
        rows::volumes::insert(tx, &volume)?;
        tags::put_all(tx, &by, volume.id.as_str(), "volume", &tags)?;
        Ok((volume, tags))
    })
    .await
}

/// What the token made before, as it is now; it is remembered for as long as its token.
fn repeated(tx: &Tx, caller: &Caller, token: Option<&Token>) -> Result<Option<(Row, Tags)>> {
    let made = token
        .map(|token| token.find(tx, caller))
        .transpose()?
        .flatten();
    let Some(made) = made else { return Ok(None) };
    let id: VolumeId = made.parse().map_err(ec2::Error::from)?;
    let volume = rows::volumes::load(tx, &id)?.ok_or_else(|| ec2::Error::not_found(&id))?;
    Ok(Some((volume, rows::tags::of(tx, id.as_str())?)))
}

/// Refuses what the pool could never hold; whether it can now is the Storage Controller's to say.
fn must_have_room(clc: &Clc, zone: &Zone, size: Gib) -> Result<()> {
    if clc.peers.storage(zone).is_none() {
        let message = format!("The zone {zone} has no Storage Controller");
        return Err(Error::new(Code::InsufficientVolumeCapacity, message));
    }
    let pool = clc.seen.storage(zone).pool;
    if pool.is_some_and(|pool| pool.total_bytes < size.bytes()) {
        let message = format!("The storage of zone {zone} is smaller than {size}");
        return Err(Error::new(Code::InsufficientVolumeCapacity, message));
    }
    Ok(())
}

/// Keys and values.
type Tags = Vec<(String, String)>;

fn shown(volume: Row, tags: Tags) -> Volume {
    Volume {
        volume_id: volume.id,
        size: volume.size,
        snapshot_id: volume.snapshot,
        availability_zone: volume.zone,
        status: volume.state,
        create_time: volume.created_at.into(),
        volume_type: volume.volume_type,
        iops: None,
        encrypted: false,
        multi_attach_enabled: false,
        attachment_set: Vec::new(),
        tag_set: tags::shown(tags),
    }
}

fn of_attachments(volume: &Volume, look: fn(&VolumeAttachment) -> String) -> Vec<String> {
    volume.attachment_set.iter().map(look).collect()
}

impl Filterable for Volume {
    const FIELDS: &'static [Field<Self>] = &[
        ("attachment.attach-time", |volume| {
            of_attachments(volume, |one| one.attach_time.0.to_string())
        }),
        ("attachment.delete-on-termination", |volume| {
            of_attachments(volume, |one| one.delete_on_termination.to_string())
        }),
        ("attachment.device", |volume| {
            of_attachments(volume, |one| one.device.clone())
        }),
        ("attachment.instance-id", |volume| {
            of_attachments(volume, |one| one.instance_id.to_string())
        }),
        ("attachment.status", |volume| {
            of_attachments(volume, |one| one.status.clone())
        }),
        ("availability-zone", |volume| {
            vec![volume.availability_zone.to_string()]
        }),
        ("create-time", |volume| {
            vec![volume.create_time.0.to_string()]
        }),
        ("encrypted", |volume| vec![volume.encrypted.to_string()]),
        ("multi-attach-enabled", |volume| {
            vec![volume.multi_attach_enabled.to_string()]
        }),
        ("size", |volume| vec![volume.size.0.to_string()]),
        ("snapshot-id", |volume| {
            volume.snapshot_id.iter().map(ToString::to_string).collect()
        }),
        ("status", |volume| vec![volume.status.as_str().to_owned()]),
        ("volume-id", |volume| vec![volume.volume_id.to_string()]),
        ("volume-type", |volume| vec![volume.volume_type.clone()]),
    ];

    fn tags(&self) -> Option<&[Tag]> {
        Some(&self.tag_set)
    }
}

/// Lists volumes, oldest first.
pub async fn describe_volumes(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeVolumes,
) -> Result<DescribeVolumesOutput> {
    let filters = Filters::of(ask.filters)?;
    let page = Page::of(ask.max_results, ask.next_token, !ask.volume_ids.is_empty())?;
    let account = caller.account().clone();
    let (volumes, mut tags) = clc
        .db
        .read(move |tx| {
            let tags = rows::tags::by_resource(tx, &account, "volume")?;
            Ok::<_, Error>((rows::volumes::list(tx, &account)?, tags))
        })
        .await?;

    let picked = naming::pick(volumes, &ask.volume_ids, |volume| &volume.id)?;
    let listed = picked.into_iter().map(|volume| {
        let tags = tags.remove(volume.id.as_str()).unwrap_or_default();
        shown(volume, tags)
    });
    let admitted = listed.filter(|volume| filters.admit(volume)).collect();
    let (volume_set, next_token) = page.cut(admitted, |volume| {
        by_time(volume.create_time.0, volume.volume_id.as_str())
    });
    Ok(DescribeVolumesOutput {
        volume_set,
        next_token,
    })
}

/// Gives a volume up.
pub async fn delete_volume(clc: &Clc, caller: &Caller, ask: DeleteVolume) -> Result<Done> {
    let (account, now) = (caller.account().clone(), clc.now());
    change(clc, caller, move |tx| {
        let volume = rows::volumes::find(tx, &account, &ask.volume_id)?
            .ok_or_else(|| ec2::Error::not_found(&ask.volume_id))?;
        match volume.state {
            VolumeState::Creating | VolumeState::Available | VolumeState::Error => {
                Ok(rows::volumes::want_absent(tx, &volume.id, now)?)
            }
            VolumeState::InUse => {
                let message = format!("Volume {} is currently attached", volume.id);
                Err(Error::new(Code::VolumeInUse, message))
            }
            VolumeState::Deleting => {
                let message = format!("Volume {} is in state {}", volume.id, volume.state.as_str());
                Err(Error::new(Code::IncorrectState, message))
            }
            VolumeState::Deleted => Err(Error::new(
                Code::Id(VolumeId::NOT_FOUND),
                "The volume does not exist",
            )),
        }
    })
    .await?;
    clc.wakes.volumes.wake();
    Ok(Done::YES)
}
