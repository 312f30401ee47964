use store::{Db, Error, Migration, OpenError};

const ONE: Migration = (
    "0001_a.sql",
    "CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (1);",
);
const TWO: Migration = (
    "0002_b.sql",
    "ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 7;",
);
const BROKEN: Migration = (
    "0002_b.sql",
    "CREATE TABLE half (x INTEGER) STRICT; CREATE TABL whole;",
);

async fn ys(db: &Db) -> i64 {
    db.read(|tx| Ok::<i64, Error>(tx.query_row("SELECT y FROM a", [], |row| row.get(0))?))
        .await
        .unwrap()
}

#[tokio::test]
async fn steps_are_applied_once_and_a_file_with_content_is_copied_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    drop(Db::open(&path, &[ONE]).unwrap());
    assert!(
        !dir.path().join("x.db.before-0001").exists(),
        "an empty file needs no copy"
    );
    drop(Db::open(&path, &[ONE, TWO]).unwrap());
    assert!(dir.path().join("x.db.before-0002").exists());
    assert_eq!(ys(&Db::open(&path, &[ONE, TWO]).unwrap()).await, 7);

    let before = Db::open(dir.path().join("x.db.before-0002"), &[ONE]).unwrap();
    let rows: i64 = before
        .read(|tx| Ok::<i64, Error>(tx.query_row("SELECT count(*) FROM a", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(rows, 1);
}

#[test]
fn an_older_program_refuses_a_newer_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    drop(Db::open(&path, &[ONE, TWO]).unwrap());
    let refused = Db::open(&path, &[ONE]).err().unwrap();
    assert!(
        matches!(
            refused,
            OpenError::Newer {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn a_step_that_fails_leaves_nothing_behind_and_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    drop(Db::open(&path, &[ONE]).unwrap());
    let failed = Db::open(&path, &[ONE, BROKEN]).err().unwrap();
    assert!(failed.to_string().contains("0002_b.sql"), "{failed}");
    drop(Db::open(&path, &[ONE, TWO]).unwrap());
}

#[test]
#[should_panic(expected = "step 1 is called 0002")]
fn steps_out_of_order_are_a_mistake_in_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let _ = Db::open(dir.path().join("x.db"), &[TWO]);
}

#[test]
fn a_database_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let _db = Db::open(dir.path().join("x.db"), &[ONE]).unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let refused = Db::open("/no/such/folder/x.db", &[ONE]).err().unwrap();
    assert!(refused.to_string().contains("/no/such/folder"), "{refused}");
}
