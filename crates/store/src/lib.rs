//! SQLite: one writer with group commit, a read pool, migrations, durable jobs.
