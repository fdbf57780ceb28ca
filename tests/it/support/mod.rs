//! The test harness: the real program with its own database, store and port.

pub mod app;
pub mod audit;
pub mod certificate;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod embedded;
pub mod nginx;
pub mod pooler;
pub mod program;
pub mod proxy;
pub mod raw;
pub mod role;
pub mod s3_faults;
pub mod small_disk;
pub mod standby;
pub mod store;
pub mod store_servers;
pub mod tcp_proxy;
pub mod tools;

use std::time::{Duration, Instant};

pub use app::TestApp;
pub use client::{Answer, Client};
pub use store::StoreKind;

/// The setting that stores every Part as an object, however small. Many tests are about objects, and small Parts are
/// quick to send.
pub const OBJECTS_ONLY: (&str, &str) = ("WINDLASS_LEDGER_PART_BYTES", "0");

/// Runs each named test, `name(&TestApp)`, on every kind of store, with its own settings (`NAME = "value"`) if it needs
/// any. After `objects only:`, small Parts are stored as objects, too. Every test ends with an [`audit`].
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

/// Like [`on_every_store!`], but only on a directory and an S3 server. `./dev stores` runs the other kinds.
#[macro_export]
macro_rules! on_a_directory_and_s3 {
    (objects only: $($tests:tt)*) => {
        $crate::on_every_store!(@kinds [ignore = "./dev stores runs it"] [$crate::support::OBJECTS_ONLY] $($tests)*);
    };
    ($($tests:tt)*) => {
        $crate::on_every_store!(@kinds [ignore = "./dev stores runs it"] [] $($tests)*);
    };
}

/// Waits until a condition holds.
///
/// # Panics
/// If it does not hold within a minute, which only bounds a hang.
pub async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    assert!(in_the_end(holds, Duration::from_mins(1)).await, "timed out waiting until {what}");
}

/// Waits until a condition holds. Returns false if it does not within `patience`.
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
