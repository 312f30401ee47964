//! Instances and reservations: what is wanted of them, and what their nodes say.

use control::{
    node::{InstanceReport, Wanted},
    timeline::Moment,
};
use rusqlite::{OptionalExtension, Row, named_params};
use store::{Error, Tx};
use types::{
    AccountId, Gib, ImageId, InstanceId, InstanceState, Mib, NodeId, ReservationId, StateReason,
    Timestamp, Zone,
};

use super::{Columns, unreadable};
use crate::instance::Life;

/// An instance, without its user data and its reports: those are read apart, where they are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its reservation.
    pub reservation: ReservationId,
    /// Its number within the reservation.
    pub launch_index: u32,
    /// Whose it is.
    pub account: AccountId,
    /// What it was launched from.
    pub image: ImageId,
    /// The kernel it boots, where it is not on its own disk.
    pub kernel: Option<ImageId>,
    /// The ramdisk beside the kernel.
    pub ramdisk: Option<ImageId>,
    /// `x86_64`.
    pub architecture: String,
    /// The name of its type.
    pub vm_type: String,
    /// Processors, as the type was at launch.
    pub vcpus: u32,
    /// Memory, as the type was at launch.
    pub memory: Mib,
    /// Local disk, as the type was at launch.
    pub disk: Gib,
    /// Its zone.
    pub zone: Zone,
    /// The name of its key pair.
    pub key_name: Option<String>,
    /// The public key, copied: the key pair may be gone.
    pub public_key: Option<String>,
    /// The token of its launch, or nothing.
    pub client_token: String,
    /// Whether TerminateInstances is refused.
    pub api_termination_off: bool,
    /// `stop` or `terminate`, when the guest shuts itself down.
    pub shutdown_behavior: String,
    /// Whether the metadata service wants a token.
    pub tokens_required: bool,
    /// How many hops a metadata token's answer lives.
    pub hop_limit: u32,
    /// Whether the metadata service shows its tags.
    pub metadata_tags: bool,
    /// When it was launched.
    pub launched_at: Timestamp,
    /// What it is to be.
    pub wanted: Wanted,
    /// How many reboots were asked for.
    pub reboots: u32,
    /// Of the wish.
    pub generation: u64,
    /// Where it is placed.
    pub node: Option<NodeId>,
    /// The number of that placement.
    pub epoch: u64,
    /// What users see.
    pub state: InstanceState,
    /// Since when.
    pub state_since: Timestamp,
    /// Why, where EC2 has a reason.
    pub reason: Option<StateReason>,
    /// `User initiated (2026-01-01 00:00:00 GMT)`, or nothing.
    pub transition: String,
    /// Of the wish that the cluster has acknowledged.
    pub taken_generation: u64,
    /// Since when its node has not answered.
    pub unreachable_since: Option<Timestamp>,
    /// Why it is of no use though it has come to run, as its node last said.
    pub impaired: Option<StateReason>,
    /// Since when.
    pub impaired_since: Option<Timestamp>,
}

impl Instance {
    /// Why it is as it is, where EC2 has a reason; or why it is of no use though it has come to run.
    pub fn state_reason(&self) -> Option<&StateReason> {
        let impaired = self.impaired.as_ref();
        let impaired = impaired.filter(|_| self.state == InstanceState::Running);
        self.reason.as_ref().or(impaired)
    }

    /// What its state machine decides by.
    pub fn life(&self) -> Life {
        Life {
            state: self.state,
            wanted: self.wanted,
            node: self.node.clone(),
            epoch: self.epoch,
        }
    }
}

/// What a launch adds to an instance, once.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Decoded.
    pub user_data: Option<Vec<u8>>,
    /// Why its node was chosen.
    pub placed_why: String,
    /// Why the others were not, as JSON.
    pub rejected: String,
    /// Our own moments so far.
    pub timeline: Vec<Moment>,
}

/// All of [`Instance`], and nothing that is large.
const COLUMNS: &str = "id, reservation, launch_index, account, image, kernel, ramdisk, architecture, vm_type, vcpus, \
    memory_mib, disk_gib, zone, key_name, public_key, client_token, api_termination_off, shutdown_behavior, \
    tokens_required, hop_limit, metadata_tags, launched_at, wanted, reboots, generation, node, epoch, state, \
    state_since, reason_code, reason_message, transition, taken_generation, unreachable_since, \
    impaired_code, impaired_message, impaired_since";

fn wanted_word(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::Running => "running",
        Wanted::Terminated => "terminated",
    }
}

fn wanted_from_word(word: &str) -> Option<Wanted> {
    [Wanted::Running, Wanted::Terminated]
        .into_iter()
        .find(|wanted| wanted_word(*wanted) == word)
}

/// In the order of [`COLUMNS`], which is that of the fields.
fn from_row(row: &Row<'_>) -> rusqlite::Result<Instance> {
    let mut columns = Columns::of(row);
    Ok(Instance {
        id: columns.parsed()?,
        reservation: columns.parsed()?,
        launch_index: columns.get()?,
        account: columns.parsed()?,
        image: columns.parsed()?,
        kernel: columns.parsed_or_null()?,
        ramdisk: columns.parsed_or_null()?,
        architecture: columns.get()?,
        vm_type: columns.get()?,
        vcpus: columns.get()?,
        memory: Mib(columns.get()?),
        disk: Gib(columns.get()?),
        zone: columns.parsed()?,
        key_name: columns.get()?,
        public_key: columns.get()?,
        client_token: columns.get()?,
        api_termination_off: columns.get()?,
        shutdown_behavior: columns.get()?,
        tokens_required: columns.get()?,
        hop_limit: columns.get()?,
        metadata_tags: columns.get()?,
        launched_at: Timestamp(columns.get()?),
        wanted: columns.word(wanted_from_word)?,
        reboots: columns.get()?,
        generation: columns.get()?,
        node: columns.parsed_or_null()?,
        epoch: columns.get()?,
        state: columns.word(InstanceState::from_word)?,
        state_since: Timestamp(columns.get()?),
        reason: reason(columns.get()?, columns.get()?),
        transition: columns.get()?,
        taken_generation: columns.get()?,
        unreachable_since: columns.get::<Option<i64>>()?.map(Timestamp),
        impaired: reason(columns.get()?, columns.get()?),
        impaired_since: columns.get::<Option<i64>>()?.map(Timestamp),
    })
}

fn reason(code: Option<String>, message: Option<String>) -> Option<StateReason> {
    code.map(|code| StateReason {
        code,
        message: message.unwrap_or_default(),
    })
}

/// Adds a reservation.
pub fn insert_reservation(
    tx: &Tx,
    id: &ReservationId,
    account: &AccountId,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached("INSERT INTO reservations (id, account, created_at) VALUES (?1, ?2, ?3)")?
        .execute(rusqlite::params![
            id.as_str(),
            account.as_str(),
            now.as_millis()
        ])?;
    Ok(())
}

/// Adds an instance.
pub fn insert(tx: &Tx, instance: &Instance, launch: &Launch) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO instances (id, reservation, launch_index, account, image, kernel, ramdisk, architecture, \
         vm_type, vcpus, memory_mib, disk_gib, zone, key_name, public_key, user_data, client_token, \
         api_termination_off, shutdown_behavior, tokens_required, hop_limit, metadata_tags, launched_at, wanted, \
         reboots, generation, node, epoch, placed_why, rejected, state, state_since, timeline) \
         VALUES (:id, :reservation, :launch_index, :account, :image, :kernel, :ramdisk, :architecture, \
         :vm_type, :vcpus, :memory, :disk, :zone, :key_name, :public_key, :user_data, :client_token, \
         :api_termination_off, :shutdown_behavior, :tokens_required, :hop_limit, :metadata_tags, :launched_at, :wanted, \
         :reboots, :generation, :node, :epoch, :placed_why, :rejected, :state, :state_since, :timeline)",
    )?
    .execute(named_params! {
        ":id": instance.id.as_str(),
        ":reservation": instance.reservation.as_str(),
        ":launch_index": instance.launch_index,
        ":account": instance.account.as_str(),
        ":image": instance.image.as_str(),
        ":kernel": instance.kernel.as_ref().map(ImageId::as_str),
        ":ramdisk": instance.ramdisk.as_ref().map(ImageId::as_str),
        ":architecture": instance.architecture,
        ":vm_type": instance.vm_type,
        ":vcpus": instance.vcpus,
        ":memory": instance.memory.0,
        ":disk": instance.disk.0,
        ":zone": instance.zone.as_str(),
        ":key_name": instance.key_name,
        ":public_key": instance.public_key,
        ":user_data": launch.user_data,
        ":client_token": instance.client_token,
        ":api_termination_off": instance.api_termination_off,
        ":shutdown_behavior": instance.shutdown_behavior,
        ":tokens_required": instance.tokens_required,
        ":hop_limit": instance.hop_limit,
        ":metadata_tags": instance.metadata_tags,
        ":launched_at": instance.launched_at.as_millis(),
        ":wanted": wanted_word(instance.wanted),
        ":reboots": instance.reboots,
        ":generation": instance.generation,
        ":node": instance.node.as_ref().map(NodeId::as_str),
        ":epoch": instance.epoch,
        ":placed_why": launch.placed_why,
        ":rejected": launch.rejected,
        ":state": instance.state.as_str(),
        ":state_since": instance.state_since.as_millis(),
        ":timeline": serde_json::to_string(&launch.timeline).expect("moments are JSON"),
    })?;
    Ok(())
}

/// The instance of that id, whosever it is, unless it is forgotten.
pub fn load(tx: &Tx, id: &InstanceId) -> Result<Option<Instance>, Error> {
    let rest = "WHERE id = ?1 AND forgotten_at IS NULL";
    Ok(query(tx, rest, [id.as_str()])?.pop())
}

/// The instance of that id, if the account has it.
pub fn find(tx: &Tx, account: &AccountId, id: &InstanceId) -> Result<Option<Instance>, Error> {
    Ok(load(tx, id)?.filter(|instance| instance.account == *account))
}

fn query(tx: &Tx, rest: &str, params: impl rusqlite::Params) -> Result<Vec<Instance>, Error> {
    let mut query = tx.prepare_cached(&format!("SELECT {COLUMNS} FROM instances {rest}"))?;
    let rows = query.query_map(params, from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// All of an account in the order of their launch, the terminated ones that are still shown included.
pub fn list(tx: &Tx, account: &AccountId) -> Result<Vec<Instance>, Error> {
    query(
        tx,
        "WHERE account = ?1 AND forgotten_at IS NULL ORDER BY launched_at, reservation, launch_index",
        [account.as_str()],
    )
}

/// All of a reservation in the order of their index, the forgotten ones included: its token answers
/// with them.
pub fn list_of_reservation(tx: &Tx, reservation: &ReservationId) -> Result<Vec<Instance>, Error> {
    query(
        tx,
        "WHERE reservation = ?1 ORDER BY launch_index",
        [reservation.as_str()],
    )
}

/// All of everyone, in the order of their launch.
pub fn list_all(tx: &Tx) -> Result<Vec<Instance>, Error> {
    let rest = "WHERE forgotten_at IS NULL ORDER BY launched_at, reservation, launch_index";
    query(tx, rest, [])
}

/// Those of a zone that are not yet gone.
pub fn list_alive(tx: &Tx, zone: &Zone) -> Result<Vec<Instance>, Error> {
    query(
        tx,
        "WHERE zone = ?1 AND state <> 'terminated' ORDER BY launched_at, id",
        [zone.as_str()],
    )
}

/// Those of a zone of whose wish the cluster has not acknowledged the newest generation.
pub fn list_untaken(tx: &Tx, zone: &Zone) -> Result<Vec<Instance>, Error> {
    let rest = "WHERE zone = ?1 AND taken_generation < generation AND node IS NOT NULL ORDER BY launched_at, id";
    query(tx, rest, [zone.as_str()])
}

/// How many of an account are not terminated.
pub fn count_alive(tx: &Tx, account: &AccountId) -> Result<u64, Error> {
    Ok(tx
        .prepare_cached(
            "SELECT count(*) FROM instances WHERE account = ?1 AND state <> 'terminated'",
        )?
        .query_row([account.as_str()], |row| row.get(0))?)
}

/// Whether an instance that is not terminated was made of this image.
pub fn uses_image(tx: &Tx, image: &ImageId) -> Result<bool, Error> {
    Ok(tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM instances WHERE (image = ?1 OR kernel = ?1 OR ramdisk = ?1) \
             AND state <> 'terminated')",
        )?
        .query_row([image.as_str()], |row| row.get(0))?)
}

/// Whether an instance that is to run on this node needs this image.
pub fn needs_image(tx: &Tx, node: &NodeId, image: &ImageId) -> Result<bool, Error> {
    Ok(tx
        .prepare_cached(
            "SELECT 1 FROM instances WHERE node = ?1 AND wanted = 'running' AND state <> 'terminated' \
             AND (image = ?2 OR kernel = ?2 OR ramdisk = ?2)",
        )?
        .exists([node.as_str(), image.as_str()])?)
}

/// Launches whose token made more than one reservation, for `verify`.
pub fn launches_of_one_token(tx: &Tx) -> Result<Vec<String>, Error> {
    let mut query = tx.prepare_cached(
        "SELECT account, client_token, count(DISTINCT reservation) AS made FROM instances \
         WHERE client_token <> '' GROUP BY account, client_token HAVING made > 1",
    )?;
    let rows = query.query_map([], |row| {
        let (account, token): (String, String) = (row.get("account")?, row.get("client_token")?);
        Ok(format!(
            "token {token} of {account} made {} reservations",
            row.get::<_, u64>("made")?
        ))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How many launches had a token, for `verify`.
pub fn count_tokens(tx: &Tx) -> Result<u64, Error> {
    let sql =
        "SELECT count(DISTINCT account || client_token) FROM instances WHERE client_token <> ''";
    Ok(tx.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// The user data, decoded.
pub fn user_data(tx: &Tx, id: &InstanceId) -> Result<Option<Vec<u8>>, Error> {
    let found: Option<Option<Vec<u8>>> = tx
        .prepare_cached("SELECT user_data FROM instances WHERE id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?;
    Ok(found.flatten())
}

/// The node's last report.
pub fn seen(tx: &Tx, id: &InstanceId) -> Result<Option<InstanceReport>, Error> {
    let found: Option<Option<InstanceReport>> = tx
        .prepare_cached("SELECT seen FROM instances WHERE id = ?1")?
        .query_row([id.as_str()], |row| {
            let text: Option<String> = row.get("seen")?;
            let read = |text: String| {
                serde_json::from_str(&text).map_err(|error| unreadable(row, "seen", error))
            };
            text.map(read).transpose()
        })
        .optional()?;
    Ok(found.flatten())
}

/// When its node last said something of it.
pub fn seen_at(tx: &Tx, id: &InstanceId) -> Result<Option<Timestamp>, Error> {
    let found: Option<Option<i64>> = tx
        .prepare_cached("SELECT seen_at FROM instances WHERE id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?;
    Ok(found.flatten().map(Timestamp))
}

/// Forgets what a cluster has taken: all wishes of its zone are to be said again.
pub fn forget_taken(tx: &Tx, zone: &Zone) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE instances SET taken_generation = 0 WHERE zone = ?1 AND state <> 'terminated'",
    )?
    .execute([zone.as_str()])?;
    Ok(())
}

/// Why its node was chosen, why the others were not (JSON), and our own moments.
pub fn history(tx: &Tx, id: &InstanceId) -> Result<Option<(String, String, Vec<Moment>)>, Error> {
    Ok(tx
        .prepare_cached("SELECT placed_why, rejected, timeline FROM instances WHERE id = ?1")?
        .query_row([id.as_str()], |row| {
            let text: String = row.get("timeline")?;
            let moments =
                serde_json::from_str(&text).map_err(|error| unreadable(row, "timeline", error))?;
            Ok((row.get("placed_why")?, row.get("rejected")?, moments))
        })
        .optional()?)
}

/// Wishes an instance away: it is on its way to terminated, and says why.
pub fn want_terminated(
    tx: &Tx,
    id: &InstanceId,
    reason: &StateReason,
    transition: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let rows = tx
        .prepare_cached(
            "UPDATE instances SET wanted = 'terminated', generation = generation + 1, state = 'shutting-down', \
             state_since = :now, reason_code = :code, reason_message = :message, transition = :transition \
             WHERE id = :id AND wanted <> 'terminated'",
        )?
        .execute(named_params! {
            ":id": id.as_str(),
            ":code": reason.code,
            ":message": reason.message,
            ":transition": transition,
            ":now": now.as_millis(),
        })?;
    store::changed_one(rows, id)
}

/// Wishes for one more reboot.
pub fn want_reboot(tx: &Tx, id: &InstanceId) -> Result<(), Error> {
    let rows = tx
        .prepare_cached(
            "UPDATE instances SET reboots = reboots + 1, generation = generation + 1 \
             WHERE id = ?1 AND wanted = 'running'",
        )?
        .execute([id.as_str()])?;
    store::changed_one(rows, id)
}

/// Wishes for the same again with a new generation: what the metadata shows has changed.
pub fn touch(tx: &Tx, id: &InstanceId) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE instances SET generation = generation + 1 WHERE id = ?1 AND wanted = 'running'",
    )?
    .execute([id.as_str()])?;
    Ok(())
}

/// Records that the cluster has a wish of that generation.
pub fn set_taken(tx: &Tx, id: &InstanceId, generation: u64) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE instances SET taken_generation = max(taken_generation, ?2) WHERE id = ?1",
    )?
    .execute(rusqlite::params![id.as_str(), generation])?;
    Ok(())
}

/// Records what users see from now on, and why if that is new.
pub fn set_state(
    tx: &Tx,
    id: &InstanceId,
    state: InstanceState,
    reason: Option<&StateReason>,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE instances SET state = :state, state_since = :now, \
         reason_code = coalesce(:code, reason_code), reason_message = coalesce(:message, reason_message) \
         WHERE id = :id AND state <> :state",
    )?
    .execute(named_params! {
        ":id": id.as_str(),
        ":state": state.as_str(),
        ":code": reason.map(|reason| reason.code.as_str()),
        ":message": reason.map(|reason| reason.message.as_str()),
        ":now": now.as_millis(),
    })?;
    Ok(())
}

/// Records a node's report.
pub fn set_seen(
    tx: &Tx,
    id: &InstanceId,
    report: &InstanceReport,
    now: Timestamp,
) -> Result<(), Error> {
    let impaired = report.impaired.as_ref();
    tx.prepare_cached(
        "UPDATE instances SET seen = :seen, seen_at = :now, unreachable_since = NULL, \
         impaired_code = :code, impaired_message = :message, \
         impaired_since = CASE WHEN :code IS NULL THEN NULL ELSE coalesce(impaired_since, :now) END \
         WHERE id = :id",
    )?
    .execute(named_params! {
        ":id": id.as_str(),
        ":seen": serde_json::to_string(report).expect("a report is JSON"),
        ":now": now.as_millis(),
        ":code": impaired.map(|reason| reason.code.as_str()),
        ":message": impaired.map(|reason| reason.message.as_str()),
    })?;
    Ok(())
}

/// Records that a node does not answer, for all its instances; or that it does again.
pub fn set_unreachable(tx: &Tx, node: &NodeId, since: Option<Timestamp>) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE instances SET unreachable_since = CASE WHEN ?2 IS NULL THEN NULL \
         ELSE coalesce(unreachable_since, ?2) END WHERE node = ?1 AND state <> 'terminated'",
    )?
    .execute(rusqlite::params![
        node.as_str(),
        since.map(Timestamp::as_millis)
    ])?;
    Ok(())
}

/// Adds one of our own moments.
pub fn add_moment(tx: &Tx, id: &InstanceId, moment: &Moment) -> Result<(), Error> {
    let json = serde_json::to_string(moment).expect("a moment is JSON");
    tx.prepare_cached(
        "UPDATE instances SET timeline = json_insert(timeline, '$[#]', json(?2)) WHERE id = ?1",
    )?
    .execute([id.as_str(), &json])?;
    Ok(())
}

/// Forgets instances that terminated before `before`, with their tags. Those of a launch whose token
/// is remembered stay, seen by nobody, and the token lives on for its time from `now`: it answers
/// with them for as long as it may come again.
pub fn forget_terminated(tx: &Tx, before: Timestamp, now: Timestamp) -> Result<usize, Error> {
    let due = "state = 'terminated' AND state_since < ?1 AND forgotten_at IS NULL";
    let is_due = tx
        .prepare_cached(&format!("SELECT 1 FROM instances WHERE {due}"))?
        .exists([before.as_millis()])?;
    if !is_due {
        return Ok(0);
    }
    tx.prepare_cached(&format!(
        "DELETE FROM tags WHERE resource IN (SELECT id FROM instances WHERE {due})"
    ))?
    .execute([before.as_millis()])?;
    tx.prepare_cached(&format!(
        "UPDATE client_tokens SET created_at = ?2 \
         WHERE made IN (SELECT reservation FROM instances WHERE {due})"
    ))?
    .execute([before.as_millis(), now.as_millis()])?;
    // What no answer shows goes at once.
    let rows = tx
        .prepare_cached(&format!(
            "UPDATE instances SET forgotten_at = ?2, user_data = NULL, seen = NULL, timeline = '[]', \
             rejected = '[]' WHERE {due}"
        ))?
        .execute([before.as_millis(), now.as_millis()])?;
    Ok(rows)
}

/// Removes the forgotten whose token is forgotten, too, with their reservations.
pub fn remove_forgotten(tx: &Tx) -> Result<usize, Error> {
    let rows = tx
        .prepare_cached(
            "DELETE FROM instances WHERE forgotten_at IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM client_tokens WHERE made = instances.reservation)",
        )?
        .execute([])?;
    if rows > 0 {
        tx.prepare_cached(
            "DELETE FROM reservations WHERE NOT EXISTS \
             (SELECT 1 FROM instances WHERE reservation = reservations.id)",
        )?
        .execute([])?;
    }
    Ok(rows)
}
