use std::{path::Path, sync::Arc, time::Duration};

use store::{Db, Error, Migration, changed_one};

pub(crate) const STEPS: &[Migration] = &[(
    "0001_things.sql",
    "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, generation INTEGER NOT NULL DEFAULT 1) STRICT;
     CREATE TABLE parts (thing INTEGER NOT NULL REFERENCES things(id)) STRICT;",
)];

/// A handler's own error, which the store's becomes part of.
#[derive(Debug)]
enum HandlerError {
    NotFound,
    Store(Error),
}

impl From<Error> for HandlerError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

fn open(dir: &Path) -> Db {
    Db::open(dir.join("test.db"), STEPS).unwrap()
}

async fn add(db: &Db, name: &str) -> Result<(), Error> {
    let name = name.to_owned();
    db.write(move |tx| {
        tx.execute("INSERT INTO things (name) VALUES (?1)", [name])?;
        Ok(())
    })
    .await
}

async fn count(db: &Db) -> i64 {
    db.read(|tx| {
        Ok::<i64, Error>(tx.query_row("SELECT count(*) FROM things", [], |row| row.get(0))?)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_read_sees_every_write_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    for n in 1..=20 {
        add(&db, &format!("thing {n}")).await.unwrap();
        assert_eq!(count(&db).await, n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writes_at_once_a_failing_one_harms_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(open(dir.path()));
    let writes = (0..500).map(|n| {
        let db = db.clone();
        tokio::spawn(async move {
            db.write(move |tx| {
                tx.execute(
                    "INSERT INTO things (name) VALUES (?1)",
                    [format!("thing {n}")],
                )
                .map_err(Error::from)?;
                if n % 5 == 0 {
                    Err(HandlerError::NotFound)
                } else {
                    Ok(n)
                }
            })
            .await
        })
    });
    for (n, write) in writes.collect::<Vec<_>>().into_iter().enumerate() {
        match write.await.unwrap() {
            Ok(got) => assert_eq!(got, n),
            Err(HandlerError::NotFound) => assert_eq!(n % 5, 0),
            Err(HandlerError::Store(error)) => panic!("{error}"),
        }
    }
    assert_eq!(count(&db).await, 400);
}

#[tokio::test]
async fn a_panic_undoes_its_own_writes_and_the_writer_lives() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let result: Result<(), Error> = db
        .write(|tx| {
            tx.execute("INSERT INTO things (name) VALUES ('half')", [])?;
            panic!("boom")
        })
        .await;
    assert!(matches!(result, Err(Error::Panicked(why)) if why == "boom"));
    add(&db, "whole").await.unwrap();
    assert_eq!(count(&db).await, 1);
}

#[tokio::test]
async fn a_panicking_reader_gives_its_connection_back() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    for _ in 0..20 {
        let result: Result<(), Error> = db.read(|_| panic!("boom")).await;
        assert!(matches!(result, Err(Error::Panicked(_))));
    }
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn a_reader_cannot_write_and_constraints_hold() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let refused: Result<usize, Error> = db
        .read(|tx| Ok(tx.execute("INSERT INTO things (name) VALUES ('x')", [])?))
        .await;
    assert!(refused.is_err());

    add(&db, "same").await.unwrap();
    assert!(add(&db, "same").await.unwrap_err().is_constraint());
    let orphan: Result<usize, Error> = db
        .write(|tx| Ok(tx.execute("INSERT INTO parts (thing) VALUES (99)", [])?))
        .await;
    assert!(orphan.unwrap_err().is_constraint());
}

#[tokio::test]
async fn a_write_that_saw_an_old_generation_is_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    add(&db, "thing").await.unwrap();
    let update = |tx: &store::Tx| {
        let sql = "UPDATE things SET generation = 2 WHERE name = 'thing' AND generation = 1";
        changed_one(tx.execute(sql, []).map_err(Error::from)?, "thing")
    };
    db.write(update).await.unwrap();
    assert!(matches!(
        db.write(update).await,
        Err(Error::Conflict { .. })
    ));
}

#[tokio::test]
async fn a_caller_that_went_away_does_not_undo_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let writing = db.write(|tx| {
        std::thread::sleep(Duration::from_millis(100));
        tx.execute("INSERT INTO things (name) VALUES ('late')", [])
            .map_err(Error::from)
    });
    assert!(
        tokio::time::timeout(Duration::from_millis(20), writing)
            .await
            .is_err()
    );
    add(&db, "next").await.unwrap();
    assert_eq!(count(&db).await, 2);
}

#[tokio::test]
async fn a_full_disk_fails_the_group_and_the_database_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    // SQLite's own page limit stands for the disk: the same SQLITE_FULL.
    let filled: Result<(), Error> = db
        .write(|tx| {
            let pages: i64 = tx.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            tx.pragma_update(None, "max_page_count", pages + 4)?;
            tx.execute(
                "INSERT INTO things (name) VALUES (hex(zeroblob(1000000)))",
                [],
            )?;
            Ok(())
        })
        .await;
    assert!(filled.is_err());
    db.write(|tx| {
        tx.pragma_update(None, "max_page_count", 1_000_000)
            .map_err(Error::from)
    })
    .await
    .unwrap();
    add(&db, "after").await.unwrap();
    assert_eq!(count(&db).await, 1);
}
