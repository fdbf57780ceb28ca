//! Deaths at any moment, under parallel load, many times over.

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
    what_was_acknowledged_survives_deaths_at_any_moment;
    what_was_acknowledged_survives_in_the_ledger_and_in_the_store (WINDLASS_LEDGER_PART_BYTES = "20000");
}

const CLIENTS: u64 = 6;

/// What clients were told, and so may rely on.
#[derive(Default)]
struct Acknowledged {
    /// Files and their bytes.
    files: BTreeMap<String, Vec<u8>>,
    /// Files that a client has asked to delete: gone, or there, as long as the answer is not known.
    asked_to_delete: BTreeMap<String, bool>,
    /// Parts of Uploads that nobody has tried to complete: the Upload, the Part, its bytes.
    parts: Vec<(String, String, Vec<u8>)>,
}

async fn what_was_acknowledged_survives_deaths_at_any_moment(app: &TestApp) {
    let told = Arc::new(Mutex::new(Acknowledged::default()));
    for round in 0..tools::rounds() as u64 {
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let client = Client::new(&app.client.address, &app.client.key);
            clients.spawn(work_until_it_dies(client, Arc::clone(&told), round * CLIENTS + number));
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..320))).await;
        app.program(Program::kill);
        clients.join_all().await;
        app.restart_with(&[]);
        everything_acknowledged_is_there(app, &told).await;
    }
    app.ledger_and_store_agree_in_the_end().await;
    let told = told.lock().unwrap();
    println!("{} files and {} parts were acknowledged, and are there", told.files.len(), told.parts.len());
}

/// Half of the smaller Parts are in the ledger.
async fn what_was_acknowledged_survives_in_the_ledger_and_in_the_store(app: &TestApp) {
    what_was_acknowledged_survives_deaths_at_any_moment(app).await;
}

/// Sizes on both sides of a chunk, so that some bodies are one request to the store and some many.
fn bytes_of(seed: u64) -> Vec<u8> {
    let length = if seed % 7 == 3 { 5 * 1024 * 1024 + seed } else { 1 + seed * 977 % 40_000 };
    seed.to_le_bytes().into_iter().cycle().take(usize::try_from(length).unwrap()).collect()
}

/// Uploads, completes and deletes until there is no answer.
async fn work_until_it_dies(client: Client, told: Arc<Mutex<Acknowledged>>, number: u64) -> Option<()> {
    for step in 0_u64.. {
        let bytes = bytes_of(number * 1001 + step);
        let upload = client.try_upload(bytes.len()).await?;
        let part = client.try_part(&upload, &bytes).await?;
        match step % 4 {
            0 => told.lock().unwrap().parts.push((upload, part, bytes)),
            1 => {
                let file = client.try_file(&bytes).await?;
                told.lock().unwrap().files.insert(file, bytes);
            }
            _ => {
                let file = client.try_complete(&upload, &part).await?;
                told.lock().unwrap().files.insert(file.clone(), bytes);
                if step % 4 == 3 {
                    told.lock().unwrap().asked_to_delete.insert(file.clone(), false);
                    client.try_delete(&file).await?;
                    told.lock().unwrap().asked_to_delete.insert(file, true);
                }
            }
        }
    }
    None
}

async fn everything_acknowledged_is_there(app: &TestApp, told: &Mutex<Acknowledged>) {
    let client = Client::new(&app.client.address, &app.client.key);
    let (files, asked, parts) = {
        let told = told.lock().unwrap();
        (told.files.clone(), told.asked_to_delete.clone(), told.parts.clone())
    };
    for (file, bytes) in &files {
        let content = client.get(&format!("/v1/files/{file}/content")).await;
        match asked.get(file) {
            Some(true) => assert_eq!(content.status, StatusCode::NOT_FOUND, "{file} is back"),
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
