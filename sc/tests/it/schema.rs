//! Released migrations stay as they were, and `schema.sql` is what they make.

use sc::rows::MIGRATIONS;

#[tokio::test]
async fn released_steps_never_change_and_the_page_shows_what_they_make() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    testkit::schema::check(&folder, MIGRATIONS).await;
}
