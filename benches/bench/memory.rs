//! Memory: 64 Parts of 64 MiB on their way at once; the peak, and what is left a little later.

use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::ingest::{BODY, in_parallel, random_body};
use crate::process::{peak_mib, reset_peak, resident_mib};
use crate::support::StoreKind;
use crate::table::Table;
use crate::windlass::{Client, Windlass};

const BURSTS: usize = 3;
const PARTS: usize = 64;

/// Runs it, and prints its table.
pub fn run() {
    let runtime = Runtime::new().unwrap();
    let body = random_body();
    println!("memory: {BURSTS} bursts of {PARTS} parts of 64 MiB at once; the highest of the program, MiB");
    let mut table = Table::new(&["store", "before", "peak", "10 s later"]);
    for (name, kind) in [("directory", StoreKind::Directory), ("SeaweedFS", StoreKind::Bucket)] {
        let Some(windlass) = runtime.block_on(Windlass::start(kind, &[])) else { continue };
        let before = resident_mib(windlass.pid());
        reset_peak(windlass.pid());
        for _ in 0..BURSTS {
            let mut client = windlass.client();
            let upload = client.upload(PARTS * BODY);
            let clients: Vec<_> = (0..PARTS).map(|_| windlass.client()).collect();
            in_parallel(clients, PARTS, |client: &mut Client, _| client.part(&upload, &body));
            client.cancel(&upload);
        }
        let peak = peak_mib(windlass.pid());
        thread::sleep(Duration::from_secs(10));
        table.row(name, &[before, peak, resident_mib(windlass.pid())].map(|it| it.to_string()));
    }
    table.print();
}
