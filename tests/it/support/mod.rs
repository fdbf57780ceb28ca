//! The harness: the real program on a database, a store and a port of its own.

pub mod app;
pub mod audit;
pub mod client;
pub mod cluster;
pub mod embedded;
pub mod nginx;
pub mod pooler;
pub mod program;
pub mod raw;
pub mod role;
pub mod s3_faults;
pub mod small_disk;
pub mod standby;
pub mod store;
pub mod store_servers;
pub mod tools;
pub mod wire;

use std::time::{Duration, Instant};

pub use app::TestApp;
pub use client::{Answer, Client};
pub use store::StoreKind;

/// The setting by which every Part is an object, however small: small ones are quick to send, and
/// many tests are about objects.
pub const OBJECTS_ONLY: (&str, &str) = ("WINDLASS_LEDGER_PART_BYTES", "0");

/// Runs each named test on every kind of store: `name(&TestApp)`, with settings (`NAME = "value"`) where it needs
/// other ones. After `objects only:` small Parts are objects, too. Every one ends with the question of [`audit`].
#[macro_export]
macro_rules! on_every_store {
    (objects only: $($tests:tt)*) => {
        $crate::on_every_store!(@kinds [] [$crate::support::OBJECTS_ONLY] $($tests)*);
    };
    (@kinds [$($attribute:meta)?] $common:tt $($tests:tt)*) => {
        $crate::on_every_store!(@kind [] directory Directory $common $($tests)*);
        $crate::on_every_store!(@kind [] bucket Bucket $common $($tests)*);
        $crate::on_every_store!(@kind [$($attribute)?] moto Moto $common $($tests)*);
        $crate::on_every_store!(@kind [$($attribute)?] azure Azure $common $($tests)*);
        $crate::on_every_store!(@kind [$($attribute)?] google Google $common $($tests)*);
    };
    (@kind $attributes:tt $module:ident $kind:ident $common:tt $($name:ident $(($($setting:ident = $value:expr),*))?;)*) => {
        mod $module {
            $($crate::on_every_store!(@test $attributes $kind $common $name [$($($setting = $value),*)?]);)*
        }
    };
    (@test [$($attribute:meta)?] $kind:ident $common:tt $name:ident [$($setting:ident = $value:expr),*]) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])?
        async fn $name() {
            let common: &[(&str, &str)] = &$common;
            let settings: &[(&str, &str)] = &[$((stringify!($setting), $value)),*];
            let settings = [common, settings].concat();
            let Some(app) = $crate::support::TestApp::start($crate::support::StoreKind::$kind, &settings).await else { return };
            super::$name(&app).await;
            app.nothing_is_lost_and_nothing_is_left().await;
        }
    };
    ($($tests:tt)*) => {
        $crate::on_every_store!(@kinds [] [] $($tests)*);
    };
}

/// The same on the two kinds that most installations have, a directory and an S3 server; on the others where
/// `./dev stores` asks for it.
#[macro_export]
macro_rules! on_a_directory_and_s3 {
    (objects only: $($tests:tt)*) => {
        $crate::on_every_store!(@kinds [ignore = "./dev stores runs it"] [$crate::support::OBJECTS_ONLY] $($tests)*);
    };
    ($($tests:tt)*) => {
        $crate::on_every_store!(@kinds [ignore = "./dev stores runs it"] [] $($tests)*);
    };
}

/// Waits until something holds that is soon to hold; the time bounds a hang, and judges nothing.
pub async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    assert!(in_the_end(holds, Duration::from_mins(1)).await, "it does not come about that {what}");
}

/// Whether something comes to hold before patience ends.
pub async fn in_the_end(mut holds: impl AsyncFnMut() -> bool, patience: Duration) -> bool {
    let began = Instant::now();
    while !holds().await {
        if began.elapsed() > patience {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}
