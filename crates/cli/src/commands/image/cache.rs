//! `mallee image cache`: what the nodes' image caches have; images fetched before anybody launches
//! them, and removed.

use std::{collections::BTreeMap, time::Duration};

use control::{
    Cloud,
    caches::{CachedEntry, Caches, CachesAsk, EvictAsk, NodeCache, WarmAsk},
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use types::{ImageId, NodeId};

use crate::{
    Failure,
    admin::Admin,
    args::{self, ImageCache, OfCaches},
    output::{Output, bytes, dash, table},
};

/// How often a node is asked how far it is.
const LOOK: Duration = Duration::from_millis(500);
/// A node that answers nothing for this long is given up: it restarts in less.
const SILENT_LOOKS_MAX: u32 = 120;

/// Runs one of the cache commands.
pub(super) async fn run(
    admin: &args::Admin,
    output: Output,
    ask: ImageCache,
) -> Result<(), Failure> {
    let admin = Admin::open(admin).await?;
    match ask {
        ImageCache::List { node } => list(&admin, output, node).await,
        ImageCache::Warm { of, no_wait } => warm(&admin, output, of, no_wait).await,
        ImageCache::Evict(of) => evict(&admin, output, of).await,
    }
}

async fn list(admin: &Admin, output: Output, nodes: Vec<NodeId>) -> Result<(), Failure> {
    let caches = admin
        .cloud
        .caches(&admin.call(), CachesAsk { nodes })
        .await?;
    output.print(&caches, || match caches.nodes.as_slice() {
        [] => "no node has joined yet\n".to_owned(),
        nodes => nodes.iter().map(section).collect::<Vec<_>>().join("\n"),
    })
}

/// A node's cache as a table under a line of its figures.
fn section(cache: &NodeCache) -> String {
    let Some(report) = &cache.report else {
        return format!("{}: {}\n", cache.node, cache.error);
    };
    let mut text = format!(
        "{}: {} of {} used, {} free on its file system\n",
        cache.node,
        bytes(report.used_bytes),
        bytes(report.limit_bytes),
        bytes(report.free_bytes),
    );
    let rows: Vec<[String; 6]> = report.entries.iter().map(row).collect();
    let heads = ["IMAGE", "FORM", "SIZE", "LAST USE", "IN USE BY", "STATE"];
    text.push_str(&table(heads, &rows));
    text
}

fn row(entry: &CachedEntry) -> [String; 6] {
    let form = entry.entry.rsplit_once('.').map(|(_, form)| form);
    [
        entry.image.to_string(),
        dash(form),
        bytes(entry.bytes),
        dash(entry.used_at),
        dash((entry.uses > 0).then(|| instances(entry.uses))),
        state(entry),
    ]
}

fn instances(count: u32) -> String {
    match count {
        1 => "1 instance".to_owned(),
        count => format!("{count} instances"),
    }
}

fn state(entry: &CachedEntry) -> String {
    match entry.percent {
        _ if entry.failed => format!("failed: {}", entry.doing),
        Some(percent) if entry.doing.is_empty() => format!("{percent} %"),
        Some(percent) => format!("{percent} %, {}", entry.doing),
        None => "cached".to_owned(),
    }
}

/// How an image stands on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Standing {
    Cached,
    Fetching(String),
    Failed(String),
    /// It said nothing of it, this time.
    Silent(String),
}

#[derive(Debug, Serialize)]
struct Outcome {
    node: NodeId,
    #[serde(flatten)]
    standing: BTreeMap<&'static str, String>,
}

fn standing(cache: &NodeCache, image: &ImageId) -> Standing {
    let Some(report) = &cache.report else {
        return Standing::Silent(cache.error.clone());
    };
    let of: Vec<&CachedEntry> = report
        .entries
        .iter()
        .filter(|e| e.image == *image)
        .collect();
    // An entry of an older recipe may lie beside the one that is on its way.
    let news = of
        .iter()
        .find(|entry| entry.failed || entry.percent.is_some());
    match news.or(of.first()) {
        Some(entry) if entry.failed => Standing::Failed(entry.doing.clone()),
        Some(entry) if entry.percent.is_some() => Standing::Fetching(state(entry)),
        Some(_) => Standing::Cached,
        None => Standing::Fetching("0 %".to_owned()),
    }
}

async fn warm(admin: &Admin, output: Output, of: OfCaches, no_wait: bool) -> Result<(), Failure> {
    let ask = WarmAsk {
        image: of.image.clone(),
        nodes: of.node.clone(),
    };
    let asked = admin.cloud.caches_warm(&admin.call(), ask).await?;
    if no_wait {
        return print_outcomes(output, &of.image, refused(&asked));
    }
    let outcomes = follow(admin, &of, refused(&asked)).await?;
    print_outcomes(output, &of.image, outcomes)
}

/// What each node answered: an error is final, anything else a beginning.
fn refused(asked: &Caches) -> BTreeMap<NodeId, Standing> {
    let of = |cache: &NodeCache| match &cache.report {
        Some(_) => Standing::Fetching("0 %".to_owned()),
        None => Standing::Failed(cache.error.clone()),
    };
    let nodes = asked.nodes.iter();
    nodes.map(|cache| (cache.node.clone(), of(cache))).collect()
}

/// Looks until each node has the image or cannot have it, with a line for each.
async fn follow(
    admin: &Admin,
    of: &OfCaches,
    mut standings: BTreeMap<NodeId, Standing>,
) -> Result<BTreeMap<NodeId, Standing>, Failure> {
    let bars = MultiProgress::new();
    let style = ProgressStyle::with_template("{prefix} {bar:30} {msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let lines: BTreeMap<NodeId, ProgressBar> = standings
        .keys()
        .map(|node| {
            let bar = ProgressBar::new(100).with_style(style.clone());
            (node.clone(), bars.add(bar.with_prefix(node.to_string())))
        })
        .collect();
    let is_open = |now: &Standing| matches!(now, Standing::Fetching(_) | Standing::Silent(_));
    let mut silent: BTreeMap<NodeId, u32> = BTreeMap::new();
    while standings.values().any(is_open) {
        tokio::time::sleep(LOOK).await;
        let nodes = standings.iter().filter(|(_, now)| is_open(now));
        let nodes = nodes.map(|(node, _)| node.clone()).collect();
        let caches = admin
            .cloud
            .caches(&admin.call(), CachesAsk { nodes })
            .await?;
        for cache in &caches.nodes {
            let mut now = standing(cache, &of.image);
            let looks = silent.entry(cache.node.clone()).or_default();
            match &now {
                Standing::Silent(why) if *looks >= SILENT_LOOKS_MAX => {
                    now = Standing::Failed(why.clone());
                }
                Standing::Silent(_) => *looks += 1,
                _ => *looks = 0,
            }
            if let Some(line) = lines.get(&cache.node) {
                show(line, cache, &of.image, &now);
            }
            standings.insert(cache.node.clone(), now);
        }
    }
    let _ = bars.clear();
    Ok(standings)
}

fn show(line: &ProgressBar, cache: &NodeCache, image: &ImageId, now: &Standing) {
    let entries = cache.report.iter().flat_map(|report| &report.entries);
    let percent = entries
        .filter(|entry| entry.image == *image)
        .find_map(|entry| entry.percent);
    match now {
        Standing::Cached => line.set_position(100),
        _ => line.set_position(percent.unwrap_or_default().into()),
    }
    line.set_message(words(now));
}

fn words(standing: &Standing) -> String {
    match standing {
        Standing::Cached => "cached".to_owned(),
        Standing::Fetching(how) => how.clone(),
        Standing::Failed(why) => format!("failed: {why}"),
        Standing::Silent(why) => why.clone(),
    }
}

/// Prints how each node stands; one that failed is a failure of the command.
fn print_outcomes(
    output: Output,
    image: &ImageId,
    standings: BTreeMap<NodeId, Standing>,
) -> Result<(), Failure> {
    let outcomes: Vec<Outcome> = standings
        .iter()
        .map(|(node, standing)| {
            let (key, text) = match standing {
                Standing::Cached => ("cached", image.to_string()),
                Standing::Fetching(how) => ("fetching", how.clone()),
                Standing::Failed(why) => ("failed", why.clone()),
                Standing::Silent(why) => ("silent", why.clone()),
            };
            Outcome {
                node: node.clone(),
                standing: BTreeMap::from([(key, text)]),
            }
        })
        .collect();
    output.print(&outcomes, || {
        let line = |(node, now): (&NodeId, &Standing)| format!("{node}: {}\n", words(now));
        standings.iter().map(line).collect()
    })?;
    let failed = standings
        .values()
        .filter(|now| matches!(now, Standing::Failed(_)));
    match failed.count() {
        0 => Ok(()),
        count => Err(Failure::failed(
            image.to_string(),
            format!("not on {count} of the nodes"),
        )),
    }
}

async fn evict(admin: &Admin, output: Output, of: OfCaches) -> Result<(), Failure> {
    let ask = EvictAsk {
        image: of.image.clone(),
        nodes: of.node,
    };
    let caches = admin.cloud.caches_evict(&admin.call(), ask).await?;
    output.print(&caches, || {
        let line = |cache: &NodeCache| match cache.error.as_str() {
            "" => format!("{}: {} is not cached\n", cache.node, of.image),
            why => format!("{}: {why}\n", cache.node),
        };
        caches.nodes.iter().map(line).collect()
    })?;
    let kept = caches.nodes.iter().filter(|cache| !cache.error.is_empty());
    match kept.count() {
        0 => Ok(()),
        count => Err(Failure::failed(
            of.image.to_string(),
            format!("still on {count} of the nodes"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::caches::CacheReport;

    fn entry(percent: Option<u8>, doing: &str, failed: bool) -> CachedEntry {
        CachedEntry {
            image: "emi-12345678".parse().unwrap(),
            entry: "emi-12345678_ab_r1.disk".to_owned(),
            bytes: 12 << 20,
            used_at: None,
            uses: u32::from(percent.is_none()),
            percent,
            doing: doing.to_owned(),
            failed,
        }
    }

    fn cache(entries: Vec<CachedEntry>) -> NodeCache {
        NodeCache {
            node: "node-12345678".parse().unwrap(),
            report: Some(CacheReport {
                entries,
                ..CacheReport::default()
            }),
            error: String::new(),
        }
    }

    #[test]
    fn an_image_that_is_on_its_way_beside_an_older_form_of_it_is_on_its_way() {
        let image = "emi-12345678".parse().unwrap();
        let old = entry(None, "", false);
        for (entries, expected) in [
            (vec![], Standing::Fetching("0 %".into())),
            (vec![old.clone()], Standing::Cached),
            (
                vec![old.clone(), entry(Some(40), "", false)],
                Standing::Fetching("40 %".into()),
            ),
            (
                vec![old, entry(None, "part 1 is corrupt", true)],
                Standing::Failed("part 1 is corrupt".into()),
            ),
        ] {
            assert_eq!(standing(&cache(entries), &image), expected);
        }
    }

    #[test]
    fn a_cache_reads_as_a_table_and_a_silent_node_as_a_line() {
        let full = section(&cache(vec![
            entry(None, "", false),
            entry(Some(7), "waiting for node-2, which fetches it", false),
        ]));
        for expected in [
            "node-12345678: 0 B of 0 B used",
            "IMAGE         FORM",
            "1 instance ",
            "cached",
            "7 %, waiting for node-2, which fetches it",
        ] {
            assert!(full.contains(expected), "{full}");
        }
        let silent = NodeCache {
            report: None,
            error: "does not answer".into(),
            ..cache(vec![])
        };
        assert_eq!(section(&silent), "node-12345678: does not answer\n");
    }
}
