//! Memory: bursts of 64 concurrent Parts of 64 MiB; the peak, and what is still used ten seconds later. Then 64 readers
//! of 300 kB/s each.

use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::http::Connection;
use crate::ingest::{BODY, in_parallel, random_body};
use crate::process::{peak_mib, reset_peak, resident_mib};
use crate::support::StoreKind;
use crate::table::Table;
use crate::windlass::{Client, Windlass, id};

const BURSTS: usize = 3;
const PARTS: usize = 64;

/// Runs this part and prints its table.
pub fn run() {
    let runtime = Runtime::new().unwrap();
    let body = random_body();
    println!("memory: {BURSTS} bursts of {PARTS} parts of 64 MiB at once; memory of the program, MiB");
    println!("then {PARTS} readers of a file of {PARTS} such parts, at 300 kB/s each");
    let mut table = Table::new(&["store", "before", "peak", "10 s later", "slow readers"]);
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
        let after = resident_mib(windlass.pid());
        let file = file(&mut windlass.client(), &body);
        reset_peak(windlass.pid());
        let readers: Vec<_> = (0..PARTS).map(|_| windlass.client()).collect();
        thread::scope(|scope| {
            for reader in readers {
                scope.spawn(|| trickle(&mut reader.begin_download(&file, (PARTS * BODY) as u64)));
            }
        });
        table.row(name, &[before, peak, after, peak_mib(windlass.pid())].map(|it| it.to_string()));
    }
    table.print();
}

/// Reads at 300 kB/s for twelve seconds.
fn trickle(answer: &mut Connection) {
    let mut bytes = vec![0; 30_000];
    for _ in 0..120 {
        answer.read(&mut bytes);
        thread::sleep(Duration::from_millis(100));
    }
}

/// Creates a File of [`PARTS`] Parts. Returns its id.
fn file(client: &mut Client, body: &[u8]) -> String {
    let upload = client.upload(PARTS * BODY);
    let parts: Vec<_> = (0..PARTS).map(|_| client.part(&upload, body)).collect();
    id(&client.complete(&upload, &parts, None))
}
