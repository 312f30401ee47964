//! `mallee verify`: the invariants, on the running cloud.

use control::{
    Cloud,
    cloud::{Ask, Check, Verdict},
};

use crate::{
    Failure,
    admin::Admin,
    args,
    output::{Output, table},
};

/// The cloud asks every node; a thousand take a while.
const DEADLINE_MS: u64 = 60_000;

/// Prints the verdict; a broken invariant is exit code 2.
pub async fn run(admin: &args::Admin, output: Output) -> Result<(), Failure> {
    let admin = Admin::open(admin).await?;
    let call = admin.call().within_ms(DEADLINE_MS);
    let verdict = admin.cloud.verify(&call, Ask {}).await?;
    output.print(&verdict, || text(&verdict))?;

    let broken = verdict
        .checks
        .iter()
        .filter(|check| !check.broken.is_empty())
        .count();
    match broken {
        0 => Ok(()),
        1 => Err(Failure::Broken("an invariant is broken".into())),
        n => Err(Failure::Broken(format!("{n} invariants are broken"))),
    }
}

fn text(verdict: &Verdict) -> String {
    let rows: Vec<[String; 4]> = verdict.checks.iter().map(row).collect();
    let mut out = table(["", "CHECK", "LOOKED AT", "SAYS"], &rows);
    for check in &verdict.checks {
        for broken in &check.broken {
            out.push_str(&format!("\n{}: {broken}", check.name));
        }
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn row(check: &Check) -> [String; 4] {
    let mark = if check.broken.is_empty() {
        "ok"
    } else {
        "BROKEN"
    };
    [
        mark.to_owned(),
        check.name.clone(),
        check.looked_at.to_string(),
        check.says.clone(),
    ]
}
