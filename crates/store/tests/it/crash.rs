//! kill -9 in the middle of writing: what was acknowledged is there, what is there is whole.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use store::{Db, Error};

use crate::db::STEPS;

/// Tells the child, which is this test binary again, that it is the writer.
const CHILD: &str = "STORE_CRASH_CHILD";

/// The child's part: writes two rows per transaction from eight tasks, prints what is acknowledged.
#[test]
fn writer_child() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let db = Db::open(path, STEPS).unwrap();
        let writers = (0..8).map(|task| {
            let db = db.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let name = format!("{task}-{n}");
                    db.write(move |tx| {
                        for half in ["a", "b"] {
                            let name = format!("{name}-{half}");
                            tx.execute("INSERT INTO things (name) VALUES (?1)", [name])?;
                        }
                        Ok::<(), Error>(())
                    })
                    .await
                    .unwrap();
                    println!("ack {task}-{n}");
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

fn killed_after(path: &Path, lines: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::writer_child", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let acknowledged = |line: &String| line.split_once("ack ").map(|(_, name)| name.to_owned());
    let mut seen: Vec<String> = output
        .by_ref()
        .filter_map(|line| acknowledged(&line))
        .take(lines)
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    seen.extend(output.filter_map(|line| acknowledged(&line)));
    seen
}

#[tokio::test]
async fn a_killed_writer_loses_nothing_it_acknowledged_and_keeps_no_half() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let path = dir.path().join(format!("{round}.db"));
        let acknowledged = killed_after(&path, 50 + 97 * round);
        assert!(acknowledged.len() >= 50);

        let db = Db::open(&path, STEPS).unwrap();
        let found: std::collections::HashSet<String> = db
            .read(|tx| {
                let mut names = tx.prepare("SELECT name FROM things")?;
                let rows = names.query_map([], |row| row.get(0))?;
                Ok::<_, Error>(rows.collect::<Result<_, _>>()?)
            })
            .await
            .unwrap();
        for name in acknowledged {
            assert!(
                found.contains(&format!("{name}-a")),
                "{name} was acknowledged and is lost"
            );
        }
        for name in &found {
            let (whole, half) = name.rsplit_once('-').unwrap();
            let other = if half == "a" { "b" } else { "a" };
            assert!(
                found.contains(&format!("{whole}-{other}")),
                "half of {whole}"
            );
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
