//! Runs the SDK suites of `tests/sdk/` against a real Windlass.

use std::path::Path;

use tokio::process::Command;

use crate::support::{TestApp, tools};

crate::on_a_directory_and_s3! {
    the_newest_python_sdk_works;
    the_python_sdk_of_the_2_x_line_works;
    the_python_azure_client_works;
    the_python_sdks_own_generated_tests_pass;
    the_node_sdk_works;
}

async fn the_newest_python_sdk_works(app: &TestApp) {
    python(app, "venv", "test_windlass.py").await;
}

async fn the_python_sdk_of_the_2_x_line_works(app: &TestApp) {
    python(app, "venv2", "test_windlass.py").await;
}

async fn the_python_azure_client_works(app: &TestApp) {
    let Some(mut pytest) = pytest("venv", "test_windlass.py") else { return };
    run(app, pytest.env("WINDLASS_AZURE_ENDPOINT", &app.client.address)).await;
}

async fn the_python_sdks_own_generated_tests_pass(app: &TestApp) {
    let Some(python) = tools::tool("venv/bin/python") else { return };
    run(app, Command::new(python).arg(suites().join("python/run_generated.py"))).await;
}

async fn the_node_sdk_works(app: &TestApp) {
    let (Some(node), Some(_)) = (tools::tool("node"), tools::tool("../tests/sdk/node/node_modules/openai")) else {
        return;
    };
    let node = &mut Command::new(node);
    run(app, node.args(["--test", "--test-isolation=none", "windlass.test.mjs"]).current_dir(suites().join("node")))
        .await;
}

async fn python(app: &TestApp, venv: &str, suite: &str) {
    let Some(mut pytest) = pytest(venv, suite) else { return };
    run(app, &mut pytest).await;
}

fn pytest(venv: &str, suite: &str) -> Option<Command> {
    let mut pytest = Command::new(tools::tool(&format!("{venv}/bin/python"))?);
    pytest.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-p", "no:asyncio"]);
    pytest.arg(suites().join("python").join(suite));
    Some(pytest)
}

fn suites() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

/// Runs a suite with the environment variables that `tests/sdk/` requires, and shows its output if it fails.
async fn run(app: &TestApp, command: &mut Command) {
    let expired = app.client.upload(1).await;
    app.expire(&expired).await;
    let output = command
        .env("WINDLASS_BASE_URL", format!("{}/v1", app.client.address))
        .env("WINDLASS_API_KEY", &app.client.key)
        .env("WINDLASS_OTHER_API_KEY", &app.stranger().key)
        .env("WINDLASS_EXPIRED_UPLOAD", expired)
        .env("WINDLASS_SDK_CACHE", tools::dev_dir().join("sdk-cache"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    println!("{text}");
}
