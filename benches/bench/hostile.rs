//! The server's processor time and memory for bodies that are made to be hard to parse, compared with random bytes.
//! Then the effect of clients that hold scarce resources on others (`neighbours`).

use tokio::runtime::Runtime;

use crate::ingest::{BODY, in_parallel, random_body};
use crate::neighbours;
use crate::process::{cpu_seconds, peak_mib, reset_peak};
use crate::support::StoreKind;
use crate::table::{Table, median};
use crate::windlass::{BOUNDARY, Client, Windlass};

const ROUNDS: usize = 5;
const BODIES: usize = 8;
const PARALLEL: usize = 4;

/// Runs this part and prints its tables.
pub fn run() {
    let runtime = Runtime::new().unwrap();
    let windlass = runtime.block_on(Windlass::start(StoreKind::Directory, &[])).unwrap();
    let almost = format!("\r\n--{}", &BOUNDARY[..BOUNDARY.len() - 1]);
    let floods = [("only CR", "\r"), ("CR LF - -", "\r\n--"), ("the boundary without its last byte", &almost)];
    let mut bodies = vec![("random bytes", random_body())];
    bodies.extend(floods.map(|(name, flood)| (name, flood.as_bytes().iter().copied().cycle().take(BODY).collect())));

    let mut costs: Vec<Vec<f64>> = bodies.iter().map(|_| vec![]).collect();
    let mut peaks = vec![0; bodies.len()];
    for _ in 0..ROUNDS {
        for (number, (_, body)) in bodies.iter().enumerate() {
            let mut client = windlass.client();
            let upload = client.upload(BODIES * BODY);
            let clients: Vec<_> = (0..PARALLEL).map(|_| windlass.client()).collect();
            reset_peak(windlass.pid());
            let cpu = cpu_seconds(windlass.pid());
            in_parallel(clients, BODIES, |client: &mut Client, _| client.part(&upload, body));
            let gib = f64::from(u32::try_from((BODIES * BODY) >> 20).unwrap()) / 1024.0;
            costs[number].push((cpu_seconds(windlass.pid()) - cpu) / gib);
            peaks[number] = peak_mib(windlass.pid()).max(peaks[number]);
            client.cancel(&upload);
            runtime.block_on(windlass.is_empty());
        }
    }
    println!("hostile bodies: {BODIES} of 64 MiB, {PARALLEL} at a time, {ROUNDS} rounds; medians");
    let mut table = Table::new(&["64 MiB of", "CPU-s/GiB", "of random bytes", "peak MiB"]);
    let normal = median(&costs[0]);
    for ((name, _), (costs, peak)) in bodies.iter().zip(costs.iter().zip(peaks)) {
        let cost = median(costs);
        table.row(name, &[format!("{cost:.2}"), format!("{:.2}", cost / normal), peak.to_string()]);
    }
    table.print();
    neighbours::run(&runtime, &bodies[0].1);
}
