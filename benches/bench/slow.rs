//! One slow reader of 8 GiB: 300 kB/s for ten minutes, which is longer than every timeout involved, and then at full
//! speed to the end. Every byte is compared.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::http::Connection;
use crate::ingest::{BODY, random_body};
use crate::process::{peak_mib, reset_peak, resident_mib};
use crate::support::StoreKind;
use crate::table::Table;
use crate::windlass::{Windlass, id};

const PARTS: usize = 128;
const SLOW: Duration = Duration::from_mins(10);
/// The number of bytes per read; ten reads per second are 300 kB/s.
const READ_BYTES: usize = 30_000;

/// Runs this part and prints its table.
pub fn run() {
    let runtime = Runtime::new().unwrap();
    let body = random_body();
    println!("slow: a file of {PARTS} parts of 64 MiB, read at 300 kB/s for {SLOW:?}, then to its end");
    let mut table =
        Table::new(&["store", "bytes read slowly", "bytes in all", "before, MiB", "peak, MiB", "fast part, MB/s"]);
    for (name, kind) in [("directory", StoreKind::Directory), ("SeaweedFS", StoreKind::Bucket)] {
        let Some(windlass) = runtime.block_on(Windlass::start(kind, &[])) else { continue };
        let mut client = windlass.client();
        let upload = client.upload(PARTS * BODY);
        let parts: Vec<_> = (0..PARTS).map(|_| client.part(&upload, &body)).collect();
        let file = id(&client.complete(&upload, &parts, None));
        let before = resident_mib(windlass.pid());
        reset_peak(windlass.pid());
        let whole = PARTS * BODY;
        let mut answer = windlass.client().begin_download(&file, whole as u64);
        let (mut at, began) = (0, Instant::now());
        while began.elapsed() < SLOW {
            at += compare(&mut answer, &body, at, READ_BYTES);
            thread::sleep(Duration::from_millis(100));
        }
        let (slowly, began) = (at, Instant::now());
        while at < whole {
            at += compare(&mut answer, &body, at, 1 << 18);
        }
        let speed = f64::from(u32::try_from((at - slowly) >> 20).unwrap()) * 1.048_576 / began.elapsed().as_secs_f64();
        let figures = [slowly as u64, at as u64, before, peak_mib(windlass.pid())].map(|it| it.to_string());
        table.row(name, &[&figures[..], &[format!("{speed:.0}")]].concat());
    }
    table.print();
}

/// Reads up to `most` bytes of a file that repeats a body, and compares them. Returns their number.
fn compare(answer: &mut Connection, body: &[u8], at: usize, most: usize) -> usize {
    let expected = &body[at % body.len()..];
    let expected = &expected[..most.min(expected.len())];
    let mut bytes = vec![0; expected.len()];
    answer.read(&mut bytes);
    assert!(bytes == expected, "the bytes from {at} on");
    bytes.len()
}
