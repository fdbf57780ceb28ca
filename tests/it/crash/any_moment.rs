//! Kills at random moments under parallel load, many times over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::StatusCode;
use tokio::task::JoinSet;

use crate::support::client::id;
use crate::support::program::Program;
use crate::support::{Client, TestApp, tools};

crate::on_a_directory_and_s3! {
    objects only:
    acknowledged_data_survives_kills_at_any_moment;
    acknowledged_data_survives_in_the_ledger_and_in_the_store (WINDLASS_LEDGER_PART_BYTES = "20000");
}

const CLIENTS: u64 = 6;

/// What was acknowledged to clients.
#[derive(Default)]
struct Acknowledged {
    /// The bytes of each File.
    files: BTreeMap<String, Vec<u8>>,
    /// Files whose deletion was requested, and whether it was acknowledged. Until it is, they may exist or not.
    asked_to_delete: BTreeMap<String, bool>,
    /// Parts of Uploads that no client completes: the Upload, the Part and its bytes.
    parts: Vec<(String, String, Vec<u8>)>,
}

async fn acknowledged_data_survives_kills_at_any_moment(app: &TestApp) {
    let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
    for round in 0..tools::rounds() as u64 {
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let client = Client::new(&app.client.address, &app.client.key);
            clients.spawn(work_until_killed(client, Arc::clone(&acknowledged), round * CLIENTS + number));
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..320))).await;
        app.program(Program::kill);
        clients.join_all().await;
        app.restart_with(&[]);
        everything_acknowledged_is_there(app, &acknowledged).await;
    }
    app.ledger_and_store_agree_in_the_end().await;
    let acknowledged = acknowledged.lock().unwrap();
    println!(
        "{} files and {} parts were acknowledged, and are there",
        acknowledged.files.len(),
        acknowledged.parts.len()
    );
}

/// The same with about half of the smaller Parts in the ledger.
async fn acknowledged_data_survives_in_the_ledger_and_in_the_store(app: &TestApp) {
    acknowledged_data_survives_kills_at_any_moment(app).await;
}

/// Sizes above and below a chunk, so that some bodies are one request to the store and some are several.
fn bytes_of(seed: u64) -> Vec<u8> {
    let length = if seed % 7 == 3 { 5 * 1024 * 1024 + seed } else { 1 + seed * 977 % 40_000 };
    seed.to_le_bytes().into_iter().cycle().take(usize::try_from(length).unwrap()).collect()
}

/// Uploads, completes and deletes until there is no response.
async fn work_until_killed(client: Client, acknowledged: Arc<Mutex<Acknowledged>>, number: u64) -> Option<()> {
    for step in 0_u64.. {
        let bytes = bytes_of(number * 1001 + step);
        let upload = client.try_upload(bytes.len()).await?;
        let part = client.try_part(&upload, &bytes).await?;
        match step % 4 {
            0 => acknowledged.lock().unwrap().parts.push((upload, part, bytes)),
            1 => {
                let file = client.try_file(&bytes).await?;
                acknowledged.lock().unwrap().files.insert(file, bytes);
            }
            _ => {
                let file = client.try_complete(&upload, &part).await?;
                acknowledged.lock().unwrap().files.insert(file.clone(), bytes);
                if step % 4 == 3 {
                    acknowledged.lock().unwrap().asked_to_delete.insert(file.clone(), false);
                    client.try_delete(&file).await?;
                    acknowledged.lock().unwrap().asked_to_delete.insert(file, true);
                }
            }
        }
    }
    None
}

async fn everything_acknowledged_is_there(app: &TestApp, acknowledged: &Mutex<Acknowledged>) {
    let client = Client::new(&app.client.address, &app.client.key);
    let (files, asked, parts) = {
        let acknowledged = acknowledged.lock().unwrap();
        (acknowledged.files.clone(), acknowledged.asked_to_delete.clone(), acknowledged.parts.clone())
    };
    for (file, bytes) in &files {
        let content = client.get(&format!("/v1/files/{file}/content")).await;
        match asked.get(file) {
            Some(true) => assert_eq!(content.status, StatusCode::NOT_FOUND, "{file} is still there"),
            Some(false) if content.status == StatusCode::NOT_FOUND => {}
            Some(false) | None => assert!(content.status == StatusCode::OK && content.body == *bytes, "{file} is lost"),
        }
    }
    for (upload, part, bytes) in &parts {
        let listed = client.get(&format!("/v1/uploads/{upload}/parts")).await.ok();
        let listed = listed["data"].as_array().unwrap();
        assert!(listed.iter().any(|it| id(it) == *part && it["bytes"] == bytes.len()), "{part} is lost: {listed:?}");
    }
}
