//! A database role other than the schema's owner.

use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use url::Url;

use super::cluster::Database;

/// A role that can read and write rows, and nothing else. It is dropped by [`Role::drop`].
pub struct Role {
    pool: PgPool,
    pub name: String,
    /// The database's URL for this role.
    pub url: String,
}

impl Role {
    /// Creates a role that may read and write the rows of all existing tables.
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

    /// The database, with this role's URL.
    pub fn database(&self) -> Database {
        Database { url: self.url.clone(), pool: self.pool.clone() }
    }

    /// Runs statements in which `ROLE` stands for the role's name, as the schema's owner.
    pub async fn does(&self, statements: &str) {
        let statements = statements.replace("ROLE", &self.name);
        self.pool.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await.unwrap();
    }

    /// Drops the role.
    pub async fn drop(self) {
        self.does("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'ROLE'").await;
        self.does("drop owned by ROLE; drop role ROLE").await;
    }
}
