//! Migrations that were released stay as they were, and what they make is on one page.
//!
//! A daemon's folder `migrations/` holds the steps, `digests.txt` (`sha256sum`'s form) what each was
//! when it was released, and `schema.sql` what all of them make: for people to read, and for reviews
//! to show what a step changes.

use std::{fmt::Write, path::Path};

use store::{Db, Migration};

/// Checks a daemon's `migrations/`. With `UPDATE_GOLDENS=1` new steps and the page are written;
/// a step that was released is never taken up anew.
///
/// # Panics
/// If a released step changed, a step has no digest, or the page is not what the steps make.
pub async fn check(folder: &Path, steps: &[Migration]) {
    let updates = std::env::var_os("UPDATE_GOLDENS").is_some();
    check_digests(&folder.join("digests.txt"), steps, updates);
    let made = schema(steps).await;
    let page = folder.join("schema.sql");
    if updates {
        std::fs::write(&page, &made).expect("the page can be written");
    }
    let kept = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        kept == made,
        "{} is not what the steps make; UPDATE_GOLDENS=1 writes it:\n{made}",
        page.display()
    );
}

fn check_digests(list: &Path, steps: &[Migration], updates: bool) {
    let mut kept = std::fs::read_to_string(list).unwrap_or_default();
    for (name, sql) in steps {
        let line = format!("{}  {name}\n", sigv4::sha256_hex(sql.as_bytes()));
        let released = kept
            .lines()
            .any(|line| line.ends_with(&format!("  {name}")));
        if !released && updates {
            kept.push_str(&line);
        }
        assert!(
            kept.contains(&line),
            "{name} is not what {} says; a released step never changes: add the next one",
            list.display()
        );
    }
    if updates {
        std::fs::write(list, kept).expect("the list can be written");
    }
}

/// Every table and index that the steps make, in the order of their names.
async fn schema(steps: &[Migration]) -> String {
    let folder = tempfile::tempdir().expect("a folder for a test");
    let db = Db::open(folder.path().join("x.db"), steps).expect("the steps can be applied");
    let read = db.read(|tx| {
        let mut query = tx.prepare(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' \
             ORDER BY tbl_name, type DESC, name",
        )?;
        let rows = query.query_map([], |row| row.get::<_, String>(0))?;
        Ok::<_, store::Error>(rows.collect::<Result<Vec<_>, _>>()?)
    });
    let mut page =
        "-- What all steps together make. Written by a test; the steps are beside it.\n".to_owned();
    for sql in read.await.expect("the schema can be read") {
        let _ = write!(page, "\n{sql};\n");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Migration = ("0001_a.sql", "CREATE TABLE a (x INTEGER) STRICT;");
    const TWO: Migration = ("0002_b.sql", "ALTER TABLE a ADD COLUMN y INTEGER;");
    const CHANGED: Migration = ("0001_a.sql", "CREATE TABLE a (x TEXT) STRICT;");

    fn released(steps: &[Migration]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        check_digests(&folder.path().join("digests.txt"), steps, true);
        folder
    }

    #[test]
    fn a_new_step_is_listed_and_an_old_one_stands() {
        let folder = released(&[ONE]);
        let list = folder.path().join("digests.txt");
        check_digests(&list, &[ONE, TWO], true);
        check_digests(&list, &[ONE, TWO], false);
    }

    #[test]
    #[should_panic(expected = "a released step never changes")]
    fn a_released_step_that_changed_is_found_even_by_an_update() {
        let folder = released(&[ONE]);
        check_digests(&folder.path().join("digests.txt"), &[CHANGED], true);
    }

    #[test]
    #[should_panic(expected = "a released step never changes")]
    fn a_step_that_is_not_listed_is_found() {
        let folder = released(&[ONE]);
        check_digests(&folder.path().join("digests.txt"), &[ONE, TWO], false);
    }

    #[tokio::test]
    async fn the_page_shows_what_the_steps_make_together() {
        let page = schema(&[ONE, TWO]).await;
        assert!(
            page.contains("CREATE TABLE a (x INTEGER, y INTEGER) STRICT;"),
            "{page}"
        );
    }
}
