//! The harness: the real program on a database, a store and a port of its own.

pub mod app;
pub mod audit;
pub mod client;
pub mod cluster;
pub mod embedded;
pub mod pooler;
pub mod program;
pub mod raw;
pub mod role;
pub mod s3_faults;
pub mod small_disk;
pub mod standby;
pub mod store;
pub mod tools;
pub mod wire;

use std::time::{Duration, Instant};

pub use app::TestApp;
pub use client::{Answer, Client};
pub use store::StoreKind;

/// The setting by which every Part is an object, however small: small ones are quick to send, and
/// many tests are about objects.
pub const OBJECTS_ONLY: (&str, &str) = ("WINDLASS_LEDGER_PART_BYTES", "0");

/// Runs each named test on a directory and on a real S3 server: `name(&TestApp)`, with settings
/// (`NAME = "value"`) where it needs other ones. After `objects only:` small Parts are objects, too.
/// Every one ends with the question of [`audit`].
#[macro_export]
macro_rules! on_both_stores {
    (objects only: $($name:ident $(($($setting:ident = $value:expr),*))?;)*) => {
        $crate::on_both_stores!(@kinds [$crate::support::OBJECTS_ONLY] $($name $(($($setting = $value),*))?;)*);
    };
    (@kinds [$($common:expr)?] $($rest:tt)*) => {
        $crate::on_both_stores!(@kind directory Directory [$($common)?] $($rest)*);
        $crate::on_both_stores!(@kind bucket Bucket [$($common)?] $($rest)*);
    };
    (@kind $module:ident $kind:ident $common:tt $($name:ident $(($($setting:ident = $value:expr),*))?;)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let common: &[(&str, &str)] = &$common;
                    let settings: &[(&str, &str)] = &[$($((stringify!($setting), $value)),*)?];
                    let settings = [common, settings].concat();
                    let Some(app) = $crate::support::TestApp::start($crate::support::StoreKind::$kind, &settings).await else { return };
                    super::$name(&app).await;
                    app.nothing_is_lost_and_nothing_is_left().await;
                }
            )*
        }
    };
    ($($name:ident $(($($setting:ident = $value:expr),*))?;)*) => {
        $crate::on_both_stores!(@kinds [] $($name $(($($setting = $value),*))?;)*);
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
