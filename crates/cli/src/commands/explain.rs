//! `mallee explain`: what happened to an instance, what took how long, and who has to act next.

use control::{
    Cloud,
    cloud::{ExplainAsk, Explanation},
    timeline::Moment,
};

use crate::{
    Failure,
    admin::Admin,
    args,
    output::{Output, table},
};

/// Prints why an instance is what it is.
pub async fn run(admin: &args::Admin, output: Output, ask: args::Explain) -> Result<(), Failure> {
    let admin = Admin::open(admin).await?;
    let ask = ExplainAsk {
        instance: ask.instance,
    };
    let explanation = admin.cloud.explain(&admin.call(), ask).await?;
    output.print(&explanation, || text(&explanation))
}

fn text(explanation: &Explanation) -> String {
    let status = &explanation.status;
    let node = status
        .node
        .as_ref()
        .map(|node| format!(" on {node}"))
        .unwrap_or_default();
    let mut out = format!(
        "{} is {}{node} ({}, {}, {})\n",
        status.instance,
        status.state.as_str(),
        status.vm_type,
        status.image,
        status.zone
    );
    if let Some(reason) = &status.reason {
        out.push_str(&format!("because {} ({})\n", reason.message, reason.code));
    }
    if let Some(waits_for) = &explanation.waits_for {
        out.push_str(&format!("it waits for {waits_for}\n"));
    }
    out.push('\n');
    out.push_str(&timeline(&explanation.timeline));
    let rejected: Vec<[String; 2]> = explanation
        .rejected
        .iter()
        .map(|r| [r.node.to_string(), r.why.clone()])
        .collect();
    if !rejected.is_empty() {
        out.push('\n');
        out.push_str(&table(["NOT CHOSEN", "WHY"], &rejected));
    }
    out
}

/// Each daemon counts from when it first heard of the instance: steps compare within one daemon only.
fn timeline(moments: &[Moment]) -> String {
    let mut rows: Vec<[String; 5]> = Vec::new();
    for (nth, moment) in moments.iter().enumerate() {
        let before = moments[..nth]
            .iter()
            .rev()
            .find(|earlier| earlier.by == moment.by);
        let took = before.map_or(0, |before| {
            moment.elapsed_ms.saturating_sub(before.elapsed_ms)
        });
        rows.push([
            moment.by.clone(),
            moment.step.clone(),
            format!("{:>8}", moment.elapsed_ms),
            format!("{:>8}", format!("+{took}")),
            moment.detail.clone(),
        ]);
    }
    table(["BY", "STEP", "      ms", "    took", "DETAIL"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_shows_what_it_took_by_its_own_daemons_clock() {
        let moment = |by: &str, step: &str, elapsed_ms| Moment {
            by: by.into(),
            step: step.into(),
            elapsed_ms,
            detail: String::new(),
        };
        let text = timeline(&[
            moment("clc", "admitted", 0),
            moment("nc", "image", 40),
            moment("clc", "placed", 12),
            moment("nc", "started", 240),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[3].starts_with("clc  placed") && lines[3].ends_with("12       +12"),
            "{text}"
        );
        assert!(
            lines[4].starts_with("nc   started") && lines[4].ends_with("240      +200"),
            "{text}"
        );
    }
}
