//! The pages of `docs/integrations`: the commands of each one run as they are written, in a Windlass of their own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::support::{StoreKind, TestApp, program, tools};

/// Declares a test for each page, with the names of the files that its commands leave in Windlass, oldest first.
macro_rules! pages {
    ($($test:ident: $page:literal => $left:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                runs_as_written($page, &$left).await;
            }
        )*

        #[test]
        fn every_page_is_tested() {
            let pages = fs::read_dir(folder()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
            let tested = [$($page),*].map(|it| format!("{it}.md")).into_iter().chain(["README.md".to_owned()]);
            assert_eq!(pages.collect::<BTreeSet<_>>(), tested.collect());
        }
    };
}

pages! {
    the_ai_sdk_for_node_works: "ai-sdk" => ["notes.txt"];
    any_llm_works: "any-llm" => ["notes.bin"];
    a_litellm_proxy_works: "litellm" => ["big.bin", "notes.txt"];
    the_ogx_client_works: "ogx-client" => ["notes.txt"];
    the_python_sdk_works_with_aiohttp: "openai-aiohttp" => ["big.bin"];
    openais_command_line_works: "openai-cli" => [];
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/integrations"))
}

/// Runs a page: the commands as one script, in a directory with the files that the page shows.
async fn runs_as_written(page: &str, left: &[&str]) {
    let Some(tools) = tools::tool(&format!("integrations/{page}")) else { return };
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let place = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(folder().join(page).with_extension("md")).unwrap();
    let mut script = String::new();
    for (language, block) in text.split("```").skip(1).step_by(2).map(|it| it.split_once('\n').unwrap()) {
        if language == "sh" {
            script.push_str(block);
        } else {
            let name = block.lines().next().unwrap().trim_start_matches(['#', '/', ' ']);
            fs::write(place.path().join(name), block).unwrap();
        }
    }
    let path = format!(
        "{}:{}:{}",
        tools.join("bin").display(),
        tools::dev_dir().join("venv/bin").display(),
        tools::path().to_str().unwrap()
    );
    let log = fs::File::create(place.path().join("output")).unwrap();
    let mut bash = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(place.path())
        .env_clear()
        .env("HOME", place.path())
        .env("PATH", path)
        .env("WINDLASS", &app.client.address)
        .env("KEY", &app.client.key)
        .env("PORT", program::free_port().to_string())
        // `./dev` has installed the packages with the same commands.
        .env("PIP_NO_INDEX", "1")
        .env("npm_config_cache", tools.join("npm"))
        .env("npm_config_offline", "true")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap();
    let group = Pid::from_raw(bash.id().cast_signed());
    let status = tokio::task::spawn_blocking(move || bash.wait()).await.unwrap().unwrap();
    // A server that the page has started.
    killpg(group, Signal::SIGKILL).ok();
    let output = fs::read_to_string(place.path().join("output")).unwrap();
    assert!(status.success(), "{output}");
    let list = app.client.get("/v1/files?order=asc").await.ok();
    let names: Vec<_> = list["data"].as_array().unwrap().iter().map(|it| it["filename"].as_str().unwrap()).collect();
    assert_eq!(names, left, "{output}");
    app.nothing_is_lost_and_nothing_is_left().await;
}
