//! `mallee doctor`: looks at the cloud as its administrator would, and says for each thing that is
//! not well what the matter is and what to do. It changes nothing.

use control::{
    Cloud,
    cloud::{Ask, CloudStatus},
    cluster::{NodeStatus, Reach},
};
use daemon::examine::{self, Finding, Verdict};

use crate::{Failure, admin::Admin, args, output::Output, public::Public};

/// Below this Walrus or a pool will soon refuse.
const FREE_MIN_BYTES: u64 = 5 << 30;
/// An administrator's certificate that ends within a month.
const CERTIFICATE_MIN_MS: i64 = 30 * 24 * 3600 * 1000;
/// Signatures are good for five minutes; a clock that is a minute off is on its way there.
const SKEW_WARN_MS: i64 = 60_000;
const SKEW_BAD_MS: i64 = 290_000;

/// Prints the findings; something bad is exit code 2.
pub async fn run(admin: &args::Admin, output: Output) -> Result<(), Failure> {
    let findings = look(admin).await?;
    output.print(&findings, || text(&findings))?;
    let bad = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Bad)
        .count();
    if bad > 0 {
        return Err(Failure::Broken(format!(
            "{bad} of {} checks failed",
            findings.len()
        )));
    }
    Ok(())
}

async fn look(given: &args::Admin) -> Result<Vec<Finding>, Failure> {
    let admin = Admin::open(given).await?;
    let now_ms = crate::public::now_ms();
    let here = examine::Wanted {
        state: std::env::temp_dir(),
        clc: Some(admin.cloud.address()),
        ..Default::default()
    };
    let mut found = examine::host(&here, now_ms).await;
    found.push(certificate(admin.tls.not_after_ms(), now_ms));
    match admin.cloud.status(&admin.call(), Ask {}).await {
        Ok(status) => found.extend(judge(&status)),
        Err(error) => found.push(finding(
            Verdict::Bad,
            "control",
            Failure::from(error).to_string(),
            "systemctl status mallee-clc; journalctl -u mallee-clc",
        )),
    }
    found.push(public_api().await);
    Ok(found)
}

fn finding(
    verdict: Verdict,
    what: impl Into<String>,
    cause: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        what: what.into(),
        verdict,
        cause: cause.into(),
        fix: fix.into(),
    }
}

fn good(what: impl Into<String>, cause: impl Into<String>) -> Finding {
    finding(Verdict::Good, what, cause, "")
}

fn certificate(not_after_ms: i64, now_ms: i64) -> Finding {
    let left_ms = not_after_ms - now_ms;
    let days = left_ms / (24 * 3600 * 1000);
    let what = "administrator's certificate";
    let fix = "remove cert.pem from the administrator's folder and run `mallee-clc init` again";
    if left_ms <= 0 {
        return finding(Verdict::Bad, what, "it has ended", fix);
    }
    if left_ms < CERTIFICATE_MIN_MS {
        return finding(
            Verdict::Warning,
            what,
            format!("it ends in {days} days"),
            fix,
        );
    }
    good(what, format!("good for {days} days"))
}

/// What the cloud says of itself.
fn judge(status: &CloudStatus) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for service in &status.services {
        let what = format!("{} {}", service.role, service.name);
        found.push(match service.state.as_str() {
            "up" => good(what, "up"),
            state => {
                let unit = format!("mallee-{}", service.role);
                let fix = format!("on its host: systemctl status {unit}; journalctl -u {unit}");
                finding(Verdict::Bad, what, state, fix)
            }
        });
    }
    if status.nodes.is_empty() {
        let fix =
            "mallee-clc token --role nc --zone ZONE; on the node: mallee-nc join --token TOKEN";
        found.push(finding(
            Verdict::Bad,
            "nodes",
            "none has joined: nothing can run",
            fix,
        ));
    }
    found.extend(status.nodes.iter().map(node));
    found.extend(storage(status));
    found.push(addresses(status));
    found
}

fn node(node: &NodeStatus) -> Finding {
    let host = node
        .report
        .as_ref()
        .map_or("?", |report| report.hostname.as_str());
    let what = format!("node {} ({host})", node.node);
    let not_ready = node
        .report
        .as_ref()
        .and_then(|report| report.not_ready.clone());
    match (node.reach, not_ready) {
        (Reach::Up, None) => good(what, "takes instances"),
        (Reach::Up, Some(why)) => finding(
            Verdict::Bad,
            what,
            why,
            "on the node: journalctl -u mallee-nc",
        ),
        (Reach::Unknown, _) => finding(
            Verdict::Warning,
            what,
            "has not answered since its cluster controller started",
            "wait half a minute; then as for an unreachable node",
        ),
        (Reach::Unreachable, _) => finding(
            Verdict::Bad,
            what,
            format!("does not answer: {}", node.why),
            "on the node: systemctl status mallee-nc; then the network between it and the cluster \
             controller. Its guests may well be running.",
        ),
        (Reach::Dead, _) => finding(
            Verdict::Warning,
            what,
            "was declared dead",
            "remove it, or join it anew",
        ),
    }
}

fn storage(status: &CloudStatus) -> Vec<Finding> {
    let room = |what: String, free_bytes: u64| match free_bytes {
        ..FREE_MIN_BYTES => {
            let cause = format!("{} free", crate::output::bytes(free_bytes));
            finding(
                Verdict::Warning,
                what,
                cause,
                "delete what is not needed, or add room",
            )
        }
        _ => good(what, format!("{} free", crate::output::bytes(free_bytes))),
    };
    let mut found = vec![match &status.objects {
        Some(objects) => room("object store".into(), objects.free_bytes),
        None => finding(
            Verdict::Bad,
            "object store",
            "Walrus does not answer: no S3, no new images",
            "on its host: systemctl status mallee-walrus",
        ),
    }];
    for (zone, pool) in &status.pools {
        let what = format!("volumes in {zone}");
        found.push(match &pool.not_ready {
            Some(why) => finding(Verdict::Bad, what, why, "journalctl -u mallee-sc"),
            None if pool.provisioned_bytes > pool.total_bytes => finding(
                Verdict::Warning,
                what,
                "volumes promise more than there is",
                "watch the free space, or add some",
            ),
            None => room(what, pool.free_bytes),
        });
    }
    found
}

fn addresses(status: &CloudStatus) -> Finding {
    let what = "public addresses";
    let fix = "network.public_addresses in clc.toml";
    match status.addresses {
        (_, 0) => finding(
            Verdict::Warning,
            what,
            "there is no pool: guests are private",
            fix,
        ),
        (taken, all) if taken >= all => {
            finding(Verdict::Warning, what, format!("all {all} are taken"), fix)
        }
        (taken, all) => good(what, format!("{} of {all} free", all - taken)),
    }
}

/// One signed call, where there is a key to sign it with.
async fn public_api() -> Finding {
    let what = "public API";
    let public = match Public::from_environment() {
        Ok(public) => public,
        Err(failure) => {
            return finding(
                Verdict::Warning,
                what,
                format!("not tried: {failure}"),
                "eval \"$(deploy/cloud env)\"",
            );
        }
    };
    match public.skew_ms().await {
        Err(failure) => finding(
            Verdict::Bad,
            what,
            failure.to_string(),
            "check EC2_URL and the access key",
        ),
        Ok(skew_ms) if skew_ms.abs() > SKEW_BAD_MS => finding(
            Verdict::Bad,
            what,
            format!(
                "the clocks differ by {} s: signatures are refused",
                skew_ms / 1000
            ),
            "set the clock of this machine or of the cloud controller's (chrony)",
        ),
        Ok(skew_ms) if skew_ms.abs() > SKEW_WARN_MS => finding(
            Verdict::Warning,
            what,
            format!("the clocks differ by {} s", skew_ms / 1000),
            "let chrony set both",
        ),
        Ok(_) => good(what, "answers a signed call"),
    }
}

fn text(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(status: &CloudStatus) -> Verdict {
        judge(status)
            .iter()
            .map(|finding| finding.verdict)
            .max()
            .unwrap()
    }

    fn status() -> CloudStatus {
        serde_json::from_value(serde_json::json!({
            "region": "mallee-1", "version": "0.1.0", "pools": [], "instances": [],
            "addresses": [1, 10],
            "services": [{"role": "clc", "name": "clc", "zone": null, "address": null, "state": "up", "seen_at": null}],
            "nodes": [{"node": "node-1234abcd", "reach": "up", "report": null}],
            "objects": {"buckets": 0, "objects": 0, "bytes": 0, "free_bytes": 1_u64 << 40, "identity_revision": 1},
        }))
        .unwrap()
    }

    #[test]
    fn a_cloud_that_is_well_has_no_bad_finding() {
        assert_eq!(worst(&status()), Verdict::Good);
    }

    #[test]
    fn what_is_not_well_is_found_and_has_a_fix() {
        let with = |change: fn(&mut CloudStatus)| {
            let mut status = status();
            change(&mut status);
            status
        };
        for (status, verdict) in [
            (with(|s| s.objects = None), Verdict::Bad),
            (with(|s| s.nodes.clear()), Verdict::Bad),
            (
                with(|s| s.nodes[0].reach = Reach::Unreachable),
                Verdict::Bad,
            ),
            (
                with(|s| s.services[0].state = "no answer".into()),
                Verdict::Bad,
            ),
            (with(|s| s.addresses = (10, 10)), Verdict::Warning),
        ] {
            let findings = judge(&status);
            assert_eq!(worst(&status), verdict);
            let unwell = findings
                .iter()
                .filter(|finding| finding.verdict != Verdict::Good);
            assert!(unwell.clone().count() == 1 && unwell.clone().all(|f| !f.fix.is_empty()));
        }
    }

    #[test]
    fn a_certificate_is_renewed_before_it_ends() {
        let day = 24 * 3600 * 1000;
        assert_eq!(certificate(90 * day, 0).verdict, Verdict::Good);
        assert_eq!(certificate(10 * day, 0).verdict, Verdict::Warning);
        assert_eq!(certificate(0, 1).verdict, Verdict::Bad);
    }
}
