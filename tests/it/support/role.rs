//! A database role beside the one that owns the schema.

use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use url::Url;

use super::cluster::Database;

/// A role that may read and write rows, and nothing else. It is dropped by [`Role::drop`].
pub struct Role {
    pool: PgPool,
    pub name: String,
    /// The database's URL for it.
    pub url: String,
}

impl Role {
    /// One that may do so in the tables that there are.
    pub async fn of_rows(database: &Database) -> Self {
        let name = format!("rows_{}", uuid::Uuid::now_v7().simple());
        let mut url: Url = database.url.parse().unwrap();
        url.set_username(&name).unwrap();
        url.set_password(Some("rows")).unwrap();
        let role = Self { pool: database.pool.clone(), name, url: url.into() };
        role.does("create role ROLE login password 'rows'").await;
        role.does("grant select, insert, update, delete on all tables in schema public to ROLE").await;
        role
    }

    /// The database, as this role reaches it.
    pub fn database(&self) -> Database {
        Database { url: self.url.clone(), pool: self.pool.clone() }
    }

    /// Runs statements about it.
    pub async fn does(&self, statements: &str) {
        let statements = statements.replace("ROLE", &self.name);
        self.pool.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await.unwrap();
    }

    /// Drops it.
    pub async fn drop(self) {
        self.does("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'ROLE'").await;
        self.does("drop owned by ROLE; drop role ROLE").await;
    }
}
