//! Instances that are there: listed, rebooted, ended, their consoles read. Launches are in
//! [`super::launch`].

mod shown;

use control::{
    node::{ConsoleRead, Wanted},
    rpc::Call,
};
use ec2::{
    Code, Done,
    instances::{
        DescribeInstanceStatus, DescribeInstanceStatusOutput, DescribeInstances,
        DescribeInstancesOutput, GetConsoleOutput, GetConsoleOutputOutput, InstanceStateChange,
        InstanceStatus, InstanceStatusDetails, InstanceStatusSummary, RebootInstances, Reservation,
        TerminateInstances, TerminateInstancesOutput,
    },
};
use store::Tx;
use types::{AccountId, InstanceId, InstanceState, StateReason, Timestamp};

use super::{
    change,
    errors::{Error, Result},
    filters::{Field, Filterable, Filters},
    naming,
    paging::{Page, by_time},
};
use crate::{Caller, Clc, rows, rows::instances::Instance as Row};
pub(super) use shown::{Around, ROOT_DEVICE};
use shown::{Shown, together};

/// Lists instances by reservation, in the order of their launch.
pub async fn describe_instances(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeInstances,
) -> Result<DescribeInstancesOutput> {
    let filters = Filters::<Shown>::of(ask.filters)?;
    let page = Page::of(
        ask.max_results,
        ask.next_token,
        !ask.instance_ids.is_empty(),
    )?;
    let around = Around::of(clc, caller);
    let account = caller.account().clone();

    // On the reader's thread to the end: ten thousand instances are some time's work.
    clc.db
        .read(move |tx| {
            let rows = some_or_all(tx, &account, &ask.instance_ids)?;
            let all = shown::from_rows(tx, &around, &account, rows)?;
            let admitted = all.into_iter().filter(|one| filters.admit(one)).collect();
            let (admitted, next_token) = page.cut(admitted, |one: &Shown| {
                let then = format!("{}/{:05}", one.reservation, one.instance.ami_launch_index);
                by_time(one.instance.launch_time.0, &then)
            });
            Ok(DescribeInstancesOutput {
                reservation_set: together(admitted),
                next_token,
            })
        })
        .await
}

/// The instances of those ids, every one of which must be there; without ids all of the account.
fn some_or_all(tx: &Tx, account: &AccountId, ids: &[InstanceId]) -> Result<Vec<Row>> {
    if ids.is_empty() {
        return Ok(rows::instances::list(tx, account)?);
    }
    let mut found = Vec::new();
    for id in ids {
        found.extend(rows::instances::find(tx, account, id)?);
    }
    naming::all_found(ids, |id| found.iter().any(|row| row.id == *id))?;
    found.sort_by(|a, b| order(a).cmp(&order(b)));
    found.dedup_by(|a, b| a.id == b.id);
    Ok(found)
}

fn order(row: &Row) -> (Timestamp, &types::ReservationId, u32) {
    (row.launched_at, &row.reservation, row.launch_index)
}

/// The reservation of a launch, as its answer shows it.
pub(super) fn reservation(
    tx: &Tx,
    around: &Around,
    id: &types::ReservationId,
) -> Result<Reservation> {
    let rows = rows::instances::list_of_reservation(tx, id)?;
    let Some(account) = rows.first().map(|row| row.account.clone()) else {
        return Err(ec2::Error::not_found(id).into());
    };
    let shown = shown::from_rows(tx, around, &account, rows)?;
    together(shown)
        .pop()
        .ok_or_else(|| ec2::Error::not_found(id).into())
}

impl Filterable for InstanceStatus {
    const FIELDS: &'static [Field<Self>] = &[
        ("availability-zone", |status| {
            vec![status.availability_zone.to_string()]
        }),
        ("event.code", |_| vec![]),
        ("event.description", |_| vec![]),
        ("event.not-after", |_| vec![]),
        ("event.not-before", |_| vec![]),
        ("instance-state-code", |status| {
            vec![status.instance_state.code.to_string()]
        }),
        ("instance-state-name", |status| {
            vec![status.instance_state.name.as_str().to_owned()]
        }),
        ("instance-status.reachability", |status| {
            details(&status.instance_status)
        }),
        ("instance-status.status", |status| {
            vec![status.instance_status.status.to_owned()]
        }),
        ("system-status.reachability", |status| {
            details(&status.system_status)
        }),
        ("system-status.status", |status| {
            vec![status.system_status.status.to_owned()]
        }),
    ];

    fn tags(&self) -> Option<&[ec2::Tag]> {
        None
    }
}

fn details(summary: &InstanceStatusSummary) -> Vec<String> {
    summary
        .details
        .iter()
        .map(|detail| detail.status.to_owned())
        .collect()
}

/// Lists how instances are; those that run, unless all are asked for.
pub async fn describe_instance_status(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeInstanceStatus,
) -> Result<DescribeInstanceStatusOutput> {
    let filters = Filters::of(ask.filters)?;
    let page = Page::of(
        ask.max_results,
        ask.next_token,
        !ask.instance_ids.is_empty(),
    )?;
    let shows_all = ask.include_all_instances.unwrap_or(false);
    let account = caller.account().clone();
    let rows = clc
        .db
        .read(move |tx| some_or_all(tx, &account, &ask.instance_ids))
        .await?;

    let statuses = rows
        .into_iter()
        .filter(|row| shows_all || row.state == InstanceState::Running)
        .map(|row| (place(&row), status(row)))
        .filter(|(_, status)| filters.admit(status))
        .collect();
    let (statuses, next_token) = page.cut(statuses, |(key, _)| key.clone());
    let instance_status_set = statuses.into_iter().map(|(_, status)| status).collect();
    Ok(DescribeInstanceStatusOutput {
        instance_status_set,
        next_token,
    })
}

/// Its place in lists.
fn place(row: &Row) -> String {
    by_time(
        row.launched_at,
        &format!("{}/{:05}", row.reservation, row.launch_index),
    )
}

/// The system is well while the node answers; the guest is not looked into.
fn status(row: Row) -> InstanceStatus {
    let (system, guest) = match row.state {
        InstanceState::Running if row.unreachable_since.is_some() => {
            ("impaired", "insufficient-data")
        }
        // The fault is its host's, and the guest does not answer.
        InstanceState::Running if row.impaired.is_some() => ("impaired", "impaired"),
        InstanceState::Running => ("ok", "ok"),
        InstanceState::Pending => ("initializing", "initializing"),
        InstanceState::ShuttingDown
        | InstanceState::Terminated
        | InstanceState::Stopping
        | InstanceState::Stopped => ("not-applicable", "not-applicable"),
    };
    let since = row.unreachable_since.or(row.impaired_since);
    InstanceStatus {
        instance_id: row.id,
        availability_zone: row.zone,
        instance_state: row.state.into(),
        events_set: Vec::new(),
        system_status: summary(system, since),
        instance_status: summary(guest, row.impaired_since),
    }
}

fn summary(status: &'static str, impaired_since: Option<Timestamp>) -> InstanceStatusSummary {
    let reachability = match status {
        "ok" => "passed",
        "impaired" => "failed",
        "initializing" => "initializing",
        "insufficient-data" => "insufficient-data",
        _ => {
            return InstanceStatusSummary {
                status,
                details: Vec::new(),
            };
        }
    };
    let detail = InstanceStatusDetails {
        name: "reachability",
        status: reachability,
        impaired_since: impaired_since.map(Into::into),
    };
    InstanceStatusSummary {
        status,
        details: vec![detail],
    }
}

/// Asks for resets of instances that run.
pub async fn reboot_instances(clc: &Clc, caller: &Caller, ask: RebootInstances) -> Result<Done> {
    let account = caller.account().clone();
    change(clc, caller, move |tx| {
        for row in some_or_all(tx, &account, &named(ask.instance_ids)?)? {
            match row.state {
                InstanceState::Running => rows::instances::want_reboot(tx, &row.id)?,
                InstanceState::Pending
                | InstanceState::ShuttingDown
                | InstanceState::Terminated
                | InstanceState::Stopping
                | InstanceState::Stopped => {
                    let state = row.state.as_str();
                    let message = format!(
                        "The instance '{}' is {state} and cannot be rebooted",
                        row.id
                    );
                    return Err(Error::new(Code::IncorrectState, message));
                }
            }
        }
        Ok(())
    })
    .await?;
    clc.wakes.instances.wake();
    Ok(Done::YES)
}

/// An empty list must not mean all.
fn named(ids: Vec<InstanceId>) -> Result<Vec<InstanceId>> {
    if ids.is_empty() {
        Err(ec2::Error::missing("InstanceId").into())
    } else {
        Ok(ids)
    }
}

/// Ends instances, or none of them if one may not be ended.
pub async fn terminate_instances(
    clc: &Clc,
    caller: &Caller,
    ask: TerminateInstances,
) -> Result<TerminateInstancesOutput> {
    let (account, now) = (caller.account().clone(), clc.now());
    let instances_set = change(clc, caller, move |tx| {
        let rows = some_or_all(tx, &account, &named(ask.instance_ids)?)?;
        if let Some(row) = rows.iter().find(|row| row.api_termination_off) {
            let message = format!(
                "The instance '{}' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.",
                row.id
            );
            return Err(Error::new(Code::OperationNotPermitted, message));
        }
        rows.into_iter().map(|row| terminate(tx, row, now)).collect::<Result<Vec<_>>>()
    })
    .await?;
    clc.wakes.instances.wake();
    Ok(TerminateInstancesOutput { instances_set })
}

fn terminate(tx: &Tx, row: Row, now: Timestamp) -> Result<InstanceStateChange> {
    let current = match row.state {
        // It goes down by itself. The wish makes sure of it, whatever becomes of its node.
        InstanceState::ShuttingDown if row.wanted == Wanted::Running => {
            let reason = row.reason.clone();
            let reason = reason.unwrap_or_else(StateReason::user_initiated);
            rows::instances::want_terminated(tx, &row.id, &reason, &row.transition, now)?;
            row.state
        }
        // It has ended, or is about to: said again, it is no error.
        InstanceState::ShuttingDown | InstanceState::Terminated => row.state,
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Stopping
        | InstanceState::Stopped => {
            let reason = StateReason::user_initiated();
            let transition = format!("User initiated ({})", gmt(now));
            rows::instances::want_terminated(tx, &row.id, &reason, &transition, now)?;
            InstanceState::ShuttingDown
        }
    };
    Ok(InstanceStateChange {
        instance_id: row.id,
        current_state: current.into(),
        previous_state: row.state.into(),
    })
}

/// `2026-01-31 12:00:00 GMT`.
fn gmt(time: Timestamp) -> String {
    let text = time.to_string();
    format!("{} {} GMT", &text[..10], &text[11..19])
}

/// Reads the last 64 KiB of an instance's console; nothing if it has said nothing yet.
pub async fn get_console_output(
    clc: &Clc,
    caller: &Caller,
    ask: GetConsoleOutput,
) -> Result<GetConsoleOutputOutput> {
    let (account, id) = (caller.account().clone(), ask.instance_id);
    let row = clc
        .db
        .read(move |tx| {
            let found = rows::instances::find(tx, &account, &id)?;
            found.ok_or_else(|| Error::from(ec2::Error::not_found(&id)))
        })
        .await?;

    let silent = |row: Row| GetConsoleOutputOutput {
        timestamp: row.state_since.into(),
        instance_id: row.id,
        output: String::new(),
    };
    if row.node.is_none() || row.state == InstanceState::Terminated {
        return Ok(silent(row));
    }
    let cluster = clc.peers.cluster(&row.zone).ok_or_else(|| {
        Error::new(
            Code::Unavailable,
            format!(
                "The zone {} has no Cluster Controller. Try again.",
                row.zone
            ),
        )
    })?;
    let read = ConsoleRead {
        instance: row.id.clone(),
        from: None,
        wait_ms: 0,
    };
    match cluster
        .console_read(&Call::new(caller.request_id().as_str()), read)
        .await
    {
        Ok(text) => Ok(GetConsoleOutputOutput {
            instance_id: row.id,
            timestamp: text.updated_at.into(),
            output: text.output,
        }),
        Err(error) if error.code == control::Code::NotFound => Ok(silent(row)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_names_its_time_as_ec2_does() {
        assert_eq!(gmt(Timestamp(1_795_402_919_000)), "2026-11-23 03:01:59 GMT");
    }
}
