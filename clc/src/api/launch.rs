//! RunInstances.
//!
//! ```text
//! check everything ─▶ hold at a Cluster Controller ─▶ one transaction ─▶ wake ─▶ answer
//!                       (no room: refused)          (token, addresses, rows; fails: hold released)
//! ```
//!
//! Nothing happens before all is checked, and a request that fits nowhere is refused before anything
//! is written. The hold is the one call to another daemon, bounded to two seconds. One that comes to
//! nothing, or whose answer was lost, is given back by a task, and by its lease if we die in between.

mod asked;

use control::{
    CallError, Code as Peer,
    cluster::{HOLD_DEADLINE_MS, Hold, HoldAsk, Placement},
    node::{Shape, Wanted},
    rpc::Call,
    timeline::Moment,
};
use ec2::{
    Code,
    instances::{Reservation, RunInstances},
};
use rand::{SeedableRng, rngs::StdRng};
use store::Tx;
use types::{
    ImageKind, InstanceId, InstanceState, ReservationId, SecurityGroupId, Timestamp, VmType, Zone,
    id::Id,
};

use super::{
    change,
    errors::{Error, Result},
    idempotency::Token,
    images, instances, security_groups, tags,
};
use crate::{
    Caller, Clc,
    addresses::{self, NoAddress},
    rows::{self, images::Image, instances::Launch, network::SubnetRow},
};
use asked::Asked;

/// Instances of one account that are not terminated.
pub const INSTANCES_MAX: u64 = 20_000;
/// Instances of one request: a hold and a transaction of more would keep others waiting.
const LAUNCH_MAX: u32 = 1_000;
/// Groups of one interface: more make its rules slow.
pub const GROUPS_MAX: usize = 16;

/// Launches instances.
pub async fn run_instances(clc: &Clc, caller: &Caller, ask: RunInstances) -> Result<Reservation> {
    let asked = Asked::of(ask)?;
    let token = Token::of("RunInstances", asked.client_token.as_deref(), &asked)?;

    let (by, ask, first, around) = (
        caller.clone(),
        asked.clone(),
        token.clone(),
        instances::Around::of(clc, caller),
    );
    let checked = clc
        .db
        .read(
            move |tx| match repeated(tx, &by, first.as_ref(), &around)? {
                Some(before) => Ok(Err(before)),
                None => Checked::of(tx, &by, &ask).map(Ok),
            },
        )
        .await?;
    if caller.is_dry_run() {
        return Err(super::would_have_succeeded());
    }
    let checked = match checked {
        Ok(checked) => checked,
        Err(before) => return Ok(before),
    };

    let held = hold(clc, caller, &asked, &checked).await?;
    let recorded = record(clc, caller, asked, token, &held).await;
    // Of a token that somebody else used meanwhile, or a failure, nothing is kept.
    if !recorded
        .as_ref()
        .is_ok_and(|reservation| reservation.reservation_id == held.reservation)
    {
        clc.release(&held.zone, &held.reservation);
    }
    clc.wakes.network.wake();
    clc.wakes.instances.wake();
    recorded
}

/// What the token launched before.
fn repeated(
    tx: &Tx,
    caller: &Caller,
    token: Option<&Token>,
    around: &instances::Around,
) -> Result<Option<Reservation>> {
    let made = token
        .map(|token| token.find(tx, caller))
        .transpose()?
        .flatten();
    let Some(made) = made else { return Ok(None) };
    let id: ReservationId = made.parse().map_err(ec2::Error::from)?;
    instances::reservation(tx, around, &id).map(Some)
}

/// What a request names, looked up.
struct Checked {
    image: Image,
    kernel: Option<Image>,
    ramdisk: Option<Image>,
    vm_type: VmType,
    public_key: Option<String>,
    groups: Vec<SecurityGroupId>,
    /// Where it may run: a subnet for each zone, in the order in which they are tried.
    subnets: Vec<SubnetRow>,
}

impl Checked {
    fn of(tx: &Tx, caller: &Caller, asked: &Asked) -> Result<Self> {
        let image = images::launchable(tx, caller, &asked.image_id)?;
        if image.kind != ImageKind::Machine {
            let reason = "Only machine images can be launched";
            return Err(ec2::Error::invalid("ImageId", &image.id, reason).into());
        }
        let kernel_id = asked.kernel_id.as_ref().or(image.kernel.as_ref());
        let ramdisk_id = asked.ramdisk_id.as_ref().or(image.ramdisk.as_ref());
        let kernel = images::check_companion(tx, caller, kernel_id, ImageKind::Kernel)?;
        let ramdisk = images::check_companion(tx, caller, ramdisk_id, ImageKind::Ramdisk)?;
        if ramdisk.is_some() && kernel.is_none() {
            let message = "A ramdisk needs a kernel: give KernelId too";
            return Err(Error::new(Code::InvalidParameterCombination, message));
        }
        let vm_type = super::instance_types::find(&asked.instance_type)?;
        if types::Gib::holding(image.size_bytes) > vm_type.disk {
            let message = format!(
                "The image {} needs a disk of {}, and {} has {}",
                image.id,
                types::Gib::holding(image.size_bytes),
                vm_type.name,
                vm_type.disk
            );
            return Err(Error::new(Code::InvalidParameterCombination, message));
        }
        let public_key = asked
            .key_name
            .as_deref()
            .map(|name| public_key(tx, caller, name))
            .transpose()?;
        let subnets = subnets(tx, caller, asked)?;
        let Some(first) = subnets.first() else {
            let message = "There is no availability zone that could run instances yet";
            return Err(Error::new(Code::InsufficientInstanceCapacity, message));
        };
        let groups = security_groups::for_launch(
            tx,
            caller,
            &first.vpc,
            &asked.group_ids,
            &asked.group_names,
        )?;
        if groups.len() > GROUPS_MAX {
            let message = format!("An instance has {GROUPS_MAX} security groups at most");
            return Err(Error::new(
                Code::SecurityGroupsPerInterfaceLimitExceeded,
                message,
            ));
        }
        within_limit(tx, caller, u64::from(asked.min_count))?;
        let groups = groups.into_iter().map(|group| group.id).collect();
        Ok(Self {
            image,
            kernel,
            ramdisk,
            vm_type,
            public_key,
            groups,
            subnets,
        })
    }

    fn shape(&self) -> Shape {
        let VmType {
            vcpus,
            memory,
            disk,
            ..
        } = self.vm_type;
        Shape {
            vcpus,
            memory_mib: memory,
            disk_gib: disk,
        }
    }
}

/// Refuses what would make an account's instances too many.
fn within_limit(tx: &Tx, caller: &Caller, more: u64) -> Result<()> {
    let alive = rows::instances::count_alive(tx, caller.account())?;
    if alive + more > INSTANCES_MAX {
        let message =
            format!("You have requested more instances than your limit of {INSTANCES_MAX} allows");
        return Err(Error::new(Code::InstanceLimitExceeded, message));
    }
    Ok(())
}

fn public_key(tx: &Tx, caller: &Caller, name: &str) -> Result<String> {
    let found = rows::key_pairs::find(tx, caller.account(), name)?;
    found.map(|key| key.public_key).ok_or_else(|| {
        let message = format!("The key pair '{}' does not exist", name.escape_debug());
        Error::new(Code::Id(types::KeyPairId::NOT_FOUND), message)
    })
}

/// The subnet that is asked for, or the account's default ones: of the zone that is asked for, or
/// of all.
fn subnets(tx: &Tx, caller: &Caller, asked: &Asked) -> Result<Vec<SubnetRow>> {
    let zones = rows::cloud::zones(tx)?;
    let zone = asked
        .zone
        .as_deref()
        .map(|name| super::zones::must_be(&zones, name))
        .transpose()?;
    if let Some(id) = &asked.subnet_id {
        let found = rows::network::find_subnet(tx, id)?;
        let subnet = found
            .filter(|subnet| subnet.account == *caller.account())
            .ok_or_else(|| ec2::Error::not_found(id))?;
        if zone.is_some_and(|zone| zone != subnet.zone) {
            let message = format!("The subnet '{id}' is in zone {}", subnet.zone);
            return Err(Error::new(Code::InvalidParameterCombination, message));
        }
        return Ok(vec![subnet]);
    }
    let mut subnets = Vec::new();
    for zone in zone.map_or(zones, |zone| vec![zone]) {
        subnets.extend(rows::network::default_subnet(tx, caller.account(), &zone)?);
    }
    Ok(subnets)
}

/// Room that a cluster keeps for us.
struct Held {
    reservation: ReservationId,
    zone: Zone,
    hold: Hold,
    took_ms: u64,
}

/// Finds a zone with room, trying each.
async fn hold(clc: &Clc, caller: &Caller, asked: &Asked, checked: &Checked) -> Result<Held> {
    let reservation = clc.mint(ReservationId::mint);
    let ids = (0..asked.max_count)
        .map(|_| clc.mint(InstanceId::mint))
        .collect();
    let ask = HoldAsk {
        reservation: reservation.clone(),
        instances: ids,
        min_count: asked.min_count,
        shape: checked.shape(),
    };
    let mut refusal = None;
    for subnet in &checked.subnets {
        let Some(cluster) = clc.peers.cluster(&subnet.zone) else {
            continue;
        };
        let call = Call::new(caller.request_id().as_str()).within_ms(HOLD_DEADLINE_MS);
        let began = clc.clock.monotonic_ms();
        match cluster.hold(&call, ask.clone()).await {
            Ok(hold) => {
                let took_ms = clc.clock.monotonic_ms().saturating_sub(began);
                let zone = subnet.zone.clone();
                return Ok(Held {
                    reservation,
                    zone,
                    hold,
                    took_ms,
                });
            }
            Err(error) => {
                tracing::info!(zone = %subnet.zone, %error, "no hold");
                if may_stand(&error) {
                    clc.release(&subnet.zone, &reservation);
                }
                refusal = Some(error);
            }
        }
    }
    Err(refusal.map_or_else(
        || {
            Error::new(
                Code::InsufficientInstanceCapacity,
                "No Cluster Controller has joined the cloud yet",
            )
        },
        Error::from,
    ))
}

/// Whether a cluster may have given a hold all the same: what it answered, if it did, was lost.
fn may_stand(error: &CallError) -> bool {
    match error.code {
        Peer::Unreachable | Peer::Deadline | Peer::Internal => true,
        Peer::NoRoom
        | Peer::Forbidden
        | Peer::NotFound
        | Peer::Invalid
        | Peer::NotReady
        | Peer::Conflict => false,
    }
}

/// Records the launch, or finds that the token did so meanwhile.
async fn record(
    clc: &Clc,
    caller: &Caller,
    asked: Asked,
    token: Option<Token>,
    held: &Held,
) -> Result<Reservation> {
    let (by, now, around) = (
        caller.clone(),
        clc.now(),
        instances::Around::of(clc, caller),
    );
    let pool: Vec<_> = clc.config.network.pool().collect();
    let mut rng = clc.mint(StdRng::from_rng);
    let (reservation, zone, took_ms) = (held.reservation.clone(), held.zone.clone(), held.took_ms);
    let hold = held.hold.clone();

    change(clc, caller, move |tx| {
        if let Some(before) = repeated(tx, &by, token.as_ref(), &around)? {
            return Ok(before);
        }
        // Looked up again: what was checked may have gone while the cluster was asked.
        let checked = Checked::of(tx, &by, &asked)?;
        // There may be room for more than the least that was asked for.
        within_limit(tx, &by, hold.placements.len() as u64)?;
        let subnet = checked.subnets.iter().find(|subnet| subnet.zone == zone);
        let subnet =
            subnet.ok_or_else(|| ec2::Error::internal("a subnet vanished from its zone"))?;
        let gets_public = asked.wants_public.unwrap_or(subnet.map_public);

        rows::instances::insert_reservation(tx, &reservation, by.account(), now)?;
        if let Some(token) = &token {
            token.record(tx, &by, reservation.as_str(), now)?;
        }
        let rejected = serde_json::to_string(&hold.rejected).map_err(ec2::Error::internal)?;
        for (index, placement) in (0..).zip(&hold.placements) {
            let row = row(
                &by,
                &asked,
                &checked,
                &reservation,
                &zone,
                placement,
                index,
                now,
            );
            let launch = Launch {
                user_data: asked.user_data.clone(),
                placed_why: placement.why.clone(),
                rejected: rejected.clone(),
                timeline: moments(placement, took_ms),
            };
            rows::instances::insert(tx, &row, &launch)?;
            let ask = addresses::Ask {
                instance: &row.id,
                account: by.account(),
                subnet,
                groups: &checked.groups,
                private_address: asked.private_address,
                public_pool: if gets_public { &pool } else { &[] },
                now,
            };
            addresses::give(tx, &ask, &mut rng)?.map_err(no_address)?;
            tags::put_all(tx, &by, row.id.as_str(), "instance", &asked.tags)?;
        }
        rows::network::bump_vpc(tx, &subnet.vpc)?;
        instances::reservation(tx, &around, &reservation)
    })
    .await
}

#[allow(
    clippy::too_many_arguments,
    reason = "a row is made of all of them, in one place"
)]
fn row(
    caller: &Caller,
    asked: &Asked,
    checked: &Checked,
    reservation: &ReservationId,
    zone: &Zone,
    placement: &Placement,
    launch_index: u32,
    now: Timestamp,
) -> rows::instances::Instance {
    rows::instances::Instance {
        id: placement.instance.clone(),
        reservation: reservation.clone(),
        launch_index,
        account: caller.account().clone(),
        image: checked.image.id.clone(),
        kernel: checked.kernel.as_ref().map(|image| image.id.clone()),
        ramdisk: checked.ramdisk.as_ref().map(|image| image.id.clone()),
        architecture: checked.image.architecture.clone(),
        vm_type: checked.vm_type.name.clone(),
        vcpus: checked.vm_type.vcpus,
        memory: checked.vm_type.memory,
        disk: checked.vm_type.disk,
        zone: zone.clone(),
        key_name: asked.key_name.clone(),
        public_key: checked.public_key.clone(),
        client_token: asked.client_token.clone().unwrap_or_default(),
        api_termination_off: asked.api_termination_off,
        shutdown_behavior: asked.shutdown_behavior.to_owned(),
        tokens_required: asked.tokens_required,
        hop_limit: asked.hop_limit,
        metadata_tags: asked.metadata_tags,
        launched_at: now,
        wanted: Wanted::Running,
        reboots: 0,
        generation: 1,
        node: Some(placement.node.clone()),
        epoch: placement.epoch,
        state: InstanceState::Pending,
        state_since: now,
        reason: None,
        transition: String::new(),
        taken_generation: 0,
        unreachable_since: None,
        impaired: None,
        impaired_since: None,
    }
}

fn moments(placement: &Placement, took_ms: u64) -> Vec<Moment> {
    let moment = |step: &str, elapsed_ms, detail| Moment {
        by: "clc".to_owned(),
        step: step.to_owned(),
        elapsed_ms,
        detail,
    };
    vec![
        moment("admitted", 0, String::new()),
        moment(
            "placed",
            took_ms,
            format!("on {}: {}", placement.node, placement.why),
        ),
    ]
}

fn no_address(why: NoAddress) -> Error {
    let code = match why {
        NoAddress::SubnetFull => Code::InsufficientFreeAddressesInSubnet,
        NoAddress::InUse(_) => Code::InvalidIpAddressInUse,
        NoAddress::NotInSubnet(_) => Code::InvalidParameterValue,
        NoAddress::PublicPoolEmpty => Code::InsufficientAddressCapacity,
    };
    Error::new(code, format!("The launch needs an address: {why}"))
}
